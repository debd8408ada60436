# METADATA
# title: What this policy promises of roles and settings
# description: >-
#   Proved for every release, in all situations. A practice's settings do not change these; a release
#   can, and then says so here.
package properties.roles

import data.authz

# METADATA
# title: A role that is taken away opens nothing
# description: Whatever is allowed without a role is allowed with it (rule 115).
# custom:
#   id: role_never_takes
#   kind: takes_nothing
#   of: member.roles
role_never_takes if input.member

# METADATA
# title: Somebody without a role may do nothing
# description: A membership alone gives nothing, not even that of the account's owner.
# custom:
#   id: role_needed
#   kind: never
role_needed if {
	authz.allow
	input.subject.type == "user"
	not _some_role
}

# METADATA
# title: He has a role that gives something
# description: A supervisor's does not, until there is supervision.
# custom:
#   id: some_role
_some_role if {
	some role in input.member.roles
	role in {"administrator", "practitioner", "scheduler", "biller", "forms_administrator"}
}

# METADATA
# title: Only practitioners write notes
# description: Under every setting; an administrator must be a practitioner too (rule 25).
# custom:
#   id: notes_by_practitioners
#   kind: never
notes_by_practitioners if {
	authz.allow
	input.action.name == "note.write"
	not "practitioner" in input.member.roles
}

# METADATA
# title: Nobody changes another author's signed note
# description: Whatever his basis (rules 62 and 102).
# custom:
#   id: signed_note_of_another_never
#   kind: never
signed_note_of_another_never if {
	authz.allow
	input.action.name == "note.write"
	input.resource.properties.signed == true
	not input.resource.properties.author == input.subject.id
}

# METADATA
# title: Only administrators give full clinical access, or change roles
# description: Not even to themselves (rule 38).
# custom:
#   id: administrators_alone
#   kind: never
administrators_alone if {
	authz.allow
	input.action.name in {
		"member.full_clinical_access", "member.invite", "member.remove", "member.roles",
		"profile.create_second", "contact.link_self", "settings.manage",
	}
	not "administrator" in input.member.roles
}

# METADATA
# title: The narrow roles open no chart
# description: >-
#   Schedulers, billers and forms administrators open no chart and read no note, under every setting
#   (rules 13, 14 and 16).
# custom:
#   id: no_chart_by_narrow_roles
#   kind: never
no_chart_by_narrow_roles if {
	authz.allow
	input.action.name in {"chart.open", "note.read"}
	not _opens_charts
}

# METADATA
# title: He has a role that may open charts
# description: If a basis holds.
# custom:
#   id: opens_charts
_opens_charts if "practitioner" in input.member.roles

# METADATA
# title: An administrator opens charts
# description: Unless the practice lets him see the list only.
# custom:
#   id: opens_charts_administrator
_opens_charts if "administrator" in input.member.roles

# METADATA
# title: What is missing only takes away
# description: Without the client on file, nothing more is allowed than with him.
# custom:
#   id: client_never_takes
#   kind: takes_nothing
#   of: client
client_never_takes if input.client

# METADATA
# title: Without settings nothing more is allowed
# description: Settings that could not be read widen nothing.
# custom:
#   id: settings_never_take
#   kind: takes_nothing
#   of: settings
settings_never_take if input.settings
