# METADATA
# title: The assigned practitioner
# description: >-
#   The practitioner whom the practice has assigned to the client. Being assigned gives nothing to
#   somebody who is not a practitioner.
# schemas:
#   - data.tables: schema.tables
package rules.assigned

import data.lib.member
import data.lib.notes

# METADATA
# title: The assigned practitioner works with his clients
# description: He opens the chart and does all that clinical work needs (rule 1).
# custom:
#   id: assigned
#   because: "{member.user} is the assigned practitioner of {client.id}"
permit if {
	_assigned
	input.action.name in data.tables.roles.assigned.always
}

# METADATA
# title: The assigned practitioner writes notes
# description: His own, and those that nobody has signed yet (rule 62).
# custom:
#   id: assigned_notes
#   because: >-
#     {member.user} is the assigned practitioner of {client.id}, and the note is his own or not
#     signed yet
permit if {
	_assigned
	notes.open_to_change
	input.action.name in data.tables.roles.assigned.own_or_unsigned_notes
}

# METADATA
# title: The assigned practitioner sees to billing, unless it is switched off for him
# description: The switch is the member's own and touches nothing else (rule 101).
# custom:
#   id: assigned_billing
#   because: >-
#     {member.user} is the assigned practitioner of {client.id}, and billing is switched on for
#     him
permit if {
	_assigned
	member.billing_enabled
	input.action.name in data.tables.roles.assigned.if_billing_is_on
}

# METADATA
# title: The assigned practitioner manages access, if the practice lets him
# description: Setting access_managers; by default only administrators do (rules 28 and 29).
# custom:
#   id: assigned_access
#   because: >-
#     {member.user} is the assigned practitioner of {client.id}, and this practice lets these
#     manage access (setting access_managers)
permit if {
	_assigned
	"assigned_practitioner" in input.settings.access_managers
	input.action.name in data.tables.roles.assigned.if_access_manager
}

# METADATA
# title: The assigned practitioner hands a client on, if the practice lets him
# description: Setting reassign_managers; by default only administrators do (rule 55).
# custom:
#   id: assigned_reassign
#   because: >-
#     {member.user} is the assigned practitioner of {client.id}, and this practice lets these hand
#     a client on (setting reassign_managers)
permit if {
	_assigned
	"assigned_practitioner" in input.settings.reassign_managers
	input.action.name in data.tables.roles.assigned.if_reassign_manager
}

# METADATA
# title: The assigned practitioner archives a client, if the practice lets him
# description: Setting archive_managers; by default only administrators do.
# custom:
#   id: assigned_archive
#   because: >-
#     {member.user} is the assigned practitioner of {client.id}, and this practice lets these
#     archive a client (setting archive_managers)
permit if {
	_assigned
	"assigned_practitioner" in input.settings.archive_managers
	input.action.name in data.tables.roles.assigned.if_archive_manager
}

# METADATA
# title: He is the assigned practitioner of this client
# description: >-
#   The client names him, and he is a practitioner now (rule 63). A client whom nobody is assigned
#   to names nobody (rules 11 and 12).
# custom:
#   id: is_assigned
_assigned if {
	member.practitioner
	input.client.assigned == input.member.user
}
