# METADATA
# title: Full clinical access
# description: >-
#   A practitioner whom the practice lets into the clinical record of every client. It is about
#   clinical documentation: it adds no billing, scheduling or portal work, and no say over access.
# schemas:
#   - data.tables: schema.tables
package rules.full_clinical_access

import data.lib.member
import data.lib.notes

# METADATA
# title: Full clinical access opens every chart of the practice
# description: To read, and to keep the demographics up to date (rule 3).
# custom:
#   id: full_clinical_access
#   because: "{member.user} has full clinical access"
permit if {
	_full_clinical_access
	input.action.name in data.tables.roles.full_clinical_access.always
}

# METADATA
# title: Full clinical access lets the practitioner write notes
# description: His own, and those that nobody has signed yet.
# custom:
#   id: full_clinical_access_notes
#   because: "{member.user} has full clinical access, and the note is his own or not signed yet"
permit if {
	_full_clinical_access
	notes.open_to_change
	input.action.name in data.tables.roles.full_clinical_access.own_or_unsigned_notes
}

# METADATA
# title: He has full clinical access
# description: The switch is inert for somebody who is not a practitioner (rule 40).
# custom:
#   id: has_full_clinical_access
_full_clinical_access if {
	member.practitioner
	input.member.full_clinical_access == true
}
