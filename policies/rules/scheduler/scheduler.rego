# METADATA
# title: Schedulers
# description: They keep the appointments of all clients of the practice, and never open a chart.
# schemas:
#   - data.tables: schema.tables
package rules.scheduler

import data.lib.member

# METADATA
# title: Schedulers keep the calendar
# description: For every client of the practice (rule 13).
# custom:
#   id: scheduler_always
#   because: "{member.user} is a scheduler of {member.practice}"
permit if {
	member.scheduler
	input.action.name in data.tables.roles.scheduler.always
}

# METADATA
# title: Schedulers create clients, if the practice lets them
# description: Setting scheduler_creates_clients; off by default.
# custom:
#   id: scheduler_creates_clients
#   because: >-
#     {member.user} is a scheduler of {member.practice}, which lets schedulers create clients
#     (setting scheduler_creates_clients)
permit if {
	member.scheduler
	input.settings.scheduler_creates_clients == true
	input.action.name in data.tables.roles.scheduler.if_schedulers_create_clients
}
