# METADATA
# title: Billers
# description: They see to the billing of all clients of the practice, and never open a chart.
# schemas:
#   - data.tables: schema.tables
package rules.biller

import data.lib.member

# METADATA
# title: Billers keep the accounts
# description: For every client of the practice (rule 14).
# custom:
#   id: biller_always
#   because: "{member.user} is a biller of {member.practice}"
permit if {
	member.biller
	input.action.name in data.tables.roles.biller.always
}

# METADATA
# title: Billers see diagnoses, if the practice lets them
# description: Setting biller_sees_diagnoses; on by default, since claims name them (rule 15).
# custom:
#   id: biller_diagnoses
#   because: >-
#     {member.user} is a biller of {member.practice}, which lets billers see diagnoses (setting
#     biller_sees_diagnoses)
permit if {
	member.biller
	input.settings.biller_sees_diagnoses == true
	input.action.name in data.tables.roles.biller.if_billers_see_diagnoses
}
