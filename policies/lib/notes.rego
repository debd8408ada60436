# METADATA
# title: Whose note it is
# description: What is known of a note comes from the service that keeps it.
# schemas:
#   - data.tables: schema.tables
package lib.notes

# METADATA
# title: The note is his own
# description: The person who asks is its author.
# custom:
#   id: own_note
own if input.resource.properties.author == input.subject.id

# METADATA
# title: His own note may be changed
# description: Also after he signed it.
# custom:
#   id: open_own_note
open_to_change if own

# METADATA
# title: A note that nobody has signed may be changed
# description: Nobody ever changes another author's signed note (rules 62 and 102).
# custom:
#   id: open_unsigned_note
open_to_change if input.resource.properties.signed == false

# METADATA
# title: An ordinary note
# description: Its kind is one that tables/notes calls ordinary.
# custom:
#   id: ordinary_note
open_to_read if input.resource.properties.kind in data.tables.notes.ordinary

# METADATA
# title: A note that he wrote himself
# description: Protected notes are open to their author alone, if he has a basis on the client.
# custom:
#   id: own_protected_note
open_to_read if own
