# METADATA
# title: Forms administrators
# description: They keep the form templates of the practice, and see no client at all.
# schemas:
#   - data.tables: schema.tables
package rules.forms_administrator

import data.lib.member

# METADATA
# title: Forms administrators keep the form templates
# description: And nothing else (rule 16).
# custom:
#   id: forms_administrator_always
#   because: "{member.user} is a forms administrator of {member.practice}"
permit if {
	member.forms_administrator
	input.action.name in data.tables.roles.forms_administrator.always
}
