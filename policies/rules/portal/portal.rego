# METADATA
# title: The portal
# description: >-
#   What a client, or somebody who acts for him, does in the portal. What lets him is that he has
#   accepted an invitation to this profile; then the switch, the features and the permissions say
#   what. The relationship gives nothing by itself, and one profile gives nothing on another.
# schemas:
#   - data.tables: schema.tables
package rules.portal

import data.lib.request

# METADATA
# title: The client has a login of his own
# description: He needs no permissions on his own profile.
# custom:
#   id: portal_own
#   because: "{subject.id} is the client's own portal login"
own if {
	_asked_of_the_portal
	_own_login
}

# METADATA
# title: A contact was given access
# description: >-
#   To this one profile. Who has access to a profile of the same person, or is a contact of it, has
#   none here (rules 143 and 144).
# custom:
#   id: portal_access
#   because: >-
#     {subject.id} is the portal login of contact {portal.contact}[, who is {portal.relationship}
#     to the client], and was given this
access if {
	_asked_of_the_portal
	_contacts_login
}

# METADATA
# title: Nothing is possible while access is switched off
# description: Whatever the relationship and the permissions are (rules 138 and 145).
# custom:
#   id: portal_off
#   because: "portal access is switched off for contact {portal.contact}"
portal_off if {
	_asked_of_the_portal
	_has_access
	not _switched_on
}

# METADATA
# title: Everything is done in the profile that was entered
# description: Another profile of the same login is not within reach until he enters it (rule 142).
# custom:
#   id: other_profile
#   because: "the profile of {client.id} was not entered[; {context.portal_profile} was]"
other_profile if {
	_asked_of_the_portal
	not _in_this_profile
}

# METADATA
# title: The right for it must be there
# description: >-
#   The practice offers it, it is not narrowed for this client, and the contact was given it (rules
#   139 to 141).
# custom:
#   id: permission
#   because: >-
#     the practice does not offer this in the portal, or contact {portal.contact} was not given it
permission if {
	_asked_of_the_portal
	_has_access
	not _has_right
}

# METADATA
# title: It is a portal login that asks for something of the portal
# description: See tables/portal. Staff never come this way.
# custom:
#   id: asked_of_the_portal
_asked_of_the_portal if {
	input.subject.type == "portal_user"
	data.tables.portal.actions[input.action.name]
}

# METADATA
# title: It is the client's own login
# description: That is not the relationship self, which is a contact's.
# custom:
#   id: own_login
_own_login if input.portal.own == true

# METADATA
# title: It is the login of a contact
# description: Of whatever relationship.
# custom:
#   id: contacts_login
_contacts_login if input.portal.own == false

# METADATA
# title: The client himself has access
# description: By his own login.
# custom:
#   id: has_own_access
_has_access if _own_login

# METADATA
# title: A contact has access
# description: By his login.
# custom:
#   id: has_contacts_access
_has_access if _contacts_login

# METADATA
# title: Access is switched on
# description: The switch stands above all permissions.
# custom:
#   id: switched_on
_switched_on if input.portal.enabled == true

# METADATA
# title: Entering a profile is possible from everywhere
# description: It is how the profile is changed.
# custom:
#   id: enters_profile
_in_this_profile if input.action.name == "portal.profile.enter"

# METADATA
# title: The profile that was entered is that of this client
# description: The service of the portal says which one was entered.
# custom:
#   id: entered_profile
_in_this_profile if input.context.portal_profile == input.client.id

# METADATA
# title: He has the right
# description: Nothing that the action needs is missing, and a document is meant for him.
# custom:
#   id: has_right
_has_right if {
	not _lacks_feature
	not _lacks_permission
	_meant_for_him
}

# METADATA
# title: A feature that the action needs is missing
# description: The practice does not offer it, or it is narrowed for this client (rule 141).
# custom:
#   id: lacks_feature
_lacks_feature if {
	some feature in data.tables.portal.actions[input.action.name].features
	not _offered(feature)
}

# METADATA
# title: The practice offers the feature for this client
# description: What is not known to be offered is not.
# custom:
#   id: offered
_offered(feature) if feature in input.portal.features

# METADATA
# title: A permission that the action needs is missing
# description: The client himself needs none (rules 139 and 140).
# custom:
#   id: lacks_permission
_lacks_permission if {
	not _own_login
	some permission in data.tables.portal.actions[input.action.name].permissions
	not _given(permission)
}

# METADATA
# title: The contact was given the permission
# description: What is not known to be given is not.
# custom:
#   id: given
_given(permission) if permission in input.portal.permissions

# METADATA
# title: What is asked of the client is meant for whoever has access
# description: Only documents have a recipient.
# custom:
#   id: meant_for_all
_meant_for_him if request.type == "client"

# METADATA
# title: A document is meant for its recipient alone
# description: A form that is shared with one parent is not there for the other one (rule 146).
# custom:
#   id: meant_for_recipient
_meant_for_him if input.resource.properties.recipient == input.portal.contact
