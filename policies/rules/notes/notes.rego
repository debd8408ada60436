# METADATA
# title: Protected notes
# description: >-
#   Psychotherapy notes and substance use counseling notes are open to nobody but their author. No
#   role, grant or setting changes it.
package rules.notes

import data.lib.notes
import data.lib.request

# METADATA
# title: Nobody but its author opens a protected note
# description: >-
#   Applies to the assigned practitioner, to full clinical access, to grants and to administrators
#   (rules 26, 96, 97 and 100). A kind of note that the table does not call ordinary is protected.
# custom:
#   id: protected_note
#   because: "a note of this kind is open to its author alone"
protected_note if {
	request.type == "note"
	not notes.open_to_read
}
