# METADATA
# title: Every practitioner
# description: >-
#   What a practitioner may do without any basis on a client. It never opens a chart (rule 5).
# schemas:
#   - data.tables: schema.tables
package rules.practitioner

import data.lib.member

# METADATA
# title: Practitioners create clients, unless the practice keeps it to administrators
# description: Setting practitioner_creates_clients; on by default.
# custom:
#   id: practitioner_creates_clients
#   because: >-
#     {member.user} is a practitioner of {member.practice}, which lets every practitioner create
#     clients (setting practitioner_creates_clients)
permit if {
	member.practitioner
	input.settings.practitioner_creates_clients == true
	input.action.name in data.tables.roles.practitioner.if_practitioners_create_clients
}

# METADATA
# title: Practitioners see the names of all clients, where the practice does not hide them
# description: Setting hide_unassigned; clients are hidden by default.
# custom:
#   id: practitioner_lists_clients
#   because: >-
#     {member.user} is a practitioner of {member.practice}, which hides no client from
#     practitioners (setting hide_unassigned)
permit if {
	member.practitioner
	input.settings.hide_unassigned == false
	input.action.name in data.tables.roles.practitioner.if_clients_are_not_hidden
}
