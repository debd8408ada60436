# METADATA
# title: Administrators
# description: >-
#   They run the practice and say who may open which chart. How much of the charts they see
#   themselves is the practice's setting admin_record_access. Writing clinical notes is not theirs.
# schemas:
#   - data.tables: schema.tables
package rules.administrator

import data.lib.member

# METADATA
# title: Administrators run the practice
# description: Members, settings, access, profiles and the portal (rules 2, 17, 27 and 38).
# custom:
#   id: administrator_always
#   because: "{member.user} is an administrator of {member.practice}"
permit if {
	member.administrator
	input.action.name in data.tables.roles.administrator.always
}

# METADATA
# title: Administrators open charts, unless they may see the list only
# description: Setting admin_record_access (rule 24).
# custom:
#   id: administrator_charts
#   because: >-
#     {member.user} is an administrator of {member.practice}, where administrators open charts
#     (setting admin_record_access is {settings.admin_record_access})
permit if {
	member.administrator
	input.settings.admin_record_access in {"full", "non_clinical"}
	input.action.name in data.tables.roles.administrator.unless_list_only
}

# METADATA
# title: Administrators read clinical documents, where the practice gives them full access
# description: Setting admin_record_access (rules 22 and 23).
# custom:
#   id: administrator_clinical
#   because: >-
#     {member.user} is an administrator of {member.practice}, where administrators read clinical
#     documents (setting admin_record_access is {settings.admin_record_access})
permit if {
	member.administrator
	input.settings.admin_record_access == "full"
	input.action.name in data.tables.roles.administrator.clinical_documents
}

# METADATA
# title: Administrators who are practitioners read clinical documents of all clients
# description: >-
#   Where administrators have no clinical access by themselves, and setting
#   admin_practitioner_reads says "all".
# custom:
#   id: administrator_practitioner_clinical
#   because: >-
#     {member.user} is an administrator and a practitioner of {member.practice}, where these read
#     clinical documents of all clients (setting admin_practitioner_reads is
#     {settings.admin_practitioner_reads})
permit if {
	member.administrator
	member.practitioner
	input.settings.admin_record_access == "non_clinical"
	input.settings.admin_practitioner_reads == "all"
	input.action.name in data.tables.roles.administrator.clinical_documents
}
