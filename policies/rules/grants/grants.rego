# METADATA
# title: Access to one client
# description: >-
#   A grant opens one client to one practitioner, from its start up to, but not including, its end.
#   It never lets him pass access on.
# schemas:
#   - data.tables: schema.tables
package rules.grants

import data.lib.member
import data.lib.notes

# METADATA
# title: A grant of any scope lets the practitioner read
# description: The chart, its notes and documents, and the appointments (rule 4).
# custom:
#   id: grant_view
#   because: >-
#     a grant[ until {grant.expires_at}][, given by {grant.granted_by}][, reason: {grant.reason}]
permit if {
	_in_force
	_scope_views
	input.action.name in data.tables.roles.client_grant.view
}

# METADATA
# title: A grant of any scope shows billing, unless it is switched off for the practitioner
# description: The switch is the member's own.
# custom:
#   id: grant_view_billing
#   because: >-
#     a grant[ until {grant.expires_at}][, given by {grant.granted_by}][, reason: {grant.reason}];
#     billing is switched on for {member.user}
permit if {
	_in_force
	_scope_views
	member.billing_enabled
	input.action.name in data.tables.roles.client_grant.view_if_billing_is_on
}

# METADATA
# title: A grant to collaborate lets the practitioner work with the client
# description: The scope says whether a grant is for viewing or for working (rule 102).
# custom:
#   id: grant_collaborate
#   because: >-
#     a grant to collaborate[ until {grant.expires_at}][, given by {grant.granted_by}][, reason:
#     {grant.reason}]
permit if {
	_in_force
	_scope_collaborates
	_collaboration
}

# METADATA
# title: Some other basis or scope is needed
# description: >-
#   The grant is in force and is for viewing, and would be enough if it were for collaborating.
#   Said only as a reason, where nothing else allows (rule 102).
# custom:
#   id: scope_too_small
#   because: >-
#     the grant[ until {grant.expires_at}][, given by {grant.granted_by}][, reason:
#     {grant.reason}] is for viewing only
scope_too_small if {
	_in_force
	input.grant.scope == "view"
	_collaboration
}

# METADATA
# title: What collaborating is
# description: See tables/roles.
# custom:
#   id: collaboration
_collaboration if input.action.name in data.tables.roles.client_grant.collaborate

# METADATA
# title: Collaborating includes writing notes of one's own
# description: Never those of somebody else, signed or not (rule 102).
# custom:
#   id: collaboration_notes
_collaboration if {
	notes.own
	input.action.name in data.tables.roles.client_grant.collaborate_own_notes
}

# METADATA
# title: Collaborating includes billing, unless it is switched off for the practitioner
# description: The switch is the member's own.
# custom:
#   id: collaboration_billing
_collaboration if {
	member.billing_enabled
	input.action.name in data.tables.roles.client_grant.collaborate_if_billing_is_on
}

# METADATA
# title: Both scopes let him read
# description: A scope that is neither of the two gives nothing.
# custom:
#   id: scope_views
_scope_views if input.grant.scope in {"view", "collaborate"}

# METADATA
# title: One scope lets him work
# description: A scope that is neither of the two gives nothing.
# custom:
#   id: scope_collaborates
_scope_collaborates if input.grant.scope == "collaborate"

# METADATA
# title: The grant is in force
# description: >-
#   It has begun, and its end has not come: at its start it holds, at its end it does not (rules 41
#   to 46). The time is known between two bounds: a start is judged by the earlier one, an end by
#   the later one, so that a doubt never lets anybody in. A time that is missing or cannot be read
#   counts as not in force: all times have one form that sorts as text, and all must lie between
#   the first year and the last. Whoever is no practitioner any more cannot use it (rule 63).
# custom:
#   id: grant_in_force
_in_force if {
	member.practitioner
	input.grant.not_before >= "0001-01-01T00:00:00.000000Z"
	input.grant.not_before <= input.context.now
	input.context.now <= input.context.latest
	input.context.latest < input.grant.expires_at
	input.grant.expires_at <= "9999-12-31T23:59:59.999999Z"
}
