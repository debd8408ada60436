# METADATA
# title: What this policy promises of the portal
# description: Proved for every release, in all situations.
# schemas:
#   - data.tables: schema.tables
package properties.portal

import data.authz

# METADATA
# title: A portal login does nothing that staff do
# description: It reads no notes, manages no access and sees no practice (DESIGN 11, the portal's actions).
# custom:
#   id: portal_only_in_the_portal
#   kind: never
portal_only_in_the_portal if {
	authz.allow
	input.subject.type == "portal_user"
	not data.tables.portal.actions[input.action.name]
}

# METADATA
# title: Staff never come through the portal
# description: What is done in the portal is done by a portal login.
# custom:
#   id: staff_never_in_the_portal
#   kind: never
staff_never_in_the_portal if {
	authz.allow
	not input.subject.type == "portal_user"
	data.tables.portal.actions[input.action.name]
}

# METADATA
# title: Access that is switched off gives nothing
# description: Whatever the relationship and the permissions are (rules 138 and 145).
# custom:
#   id: portal_off_never
#   kind: never
portal_off_never if {
	authz.allow
	input.subject.type == "portal_user"
	not input.portal.enabled == true
}

# METADATA
# title: Nothing is within reach but the profile that was entered
# description: Another profile of the same person must be entered first (rule 142).
# custom:
#   id: other_profile_never
#   kind: never
other_profile_never if {
	authz.allow
	input.subject.type == "portal_user"
	input.action.name != "portal.profile.enter"
	not input.context.portal_profile == input.client.id
}

# METADATA
# title: An archived profile is closed in the portal
# description: Until it is reactivated (rule 65).
# custom:
#   id: archived_profile_never
#   kind: never
archived_profile_never if {
	authz.allow
	input.subject.type == "portal_user"
	not input.client.status == "active"
}

# METADATA
# title: A document is there for its recipient alone
# description: A form that is shared with one parent is not there for the other one (rule 146).
# custom:
#   id: document_of_another_never
#   kind: never
document_of_another_never if {
	authz.allow
	input.subject.type == "portal_user"
	input.resource.type == "document"
	not input.resource.properties.recipient == input.portal.contact
}

# METADATA
# title: A permission that is taken away opens nothing
# description: Whatever is allowed without it is allowed with it.
# custom:
#   id: permission_never_takes
#   kind: takes_nothing
#   of: portal.permissions
permission_never_takes if input.portal

# METADATA
# title: The relationship gives nothing by itself
# description: >-
#   Self, parent and the like are words; the invitation, the switch and the permissions count (rule
#   145). Without portal access on file nothing is allowed in the portal.
# custom:
#   id: portal_access_needed
#   kind: never
portal_access_needed if {
	authz.allow
	input.subject.type == "portal_user"
	not input.portal
}
