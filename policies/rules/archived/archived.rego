# METADATA
# title: Archived clients
# description: >-
#   The chart of an archived client can be read by those who could read it before, and by nobody
#   changed.
# schemas:
#   - data.tables: schema.tables
package rules.archived

import data.lib.request

# METADATA
# title: An archived client is not changed
# description: >-
#   What remains possible, reading and taking access away, is listed in tables/archived
#   (rule 64). A client whose status is not known is not touched at all.
# custom:
#   id: archived
#   because: >-
#     {client.id} is not active[ but {client.status}], and this is not possible on such a client
archived if not _open

# METADATA
# title: The client is active
# description: Everything is possible.
# custom:
#   id: active_client
_open if input.client.status == "active"

# METADATA
# title: The client is archived, and the action remains possible
# description: See tables/archived.
# custom:
#   id: archived_client
_open if {
	input.client.status == "archived"
	input.action.name in data.tables.archived.still_possible
}

# METADATA
# title: The resource belongs to no client
# description: Practices, form templates and members are not archived.
# custom:
#   id: no_client
_open if request.type in {"practice", "form_template", "member"}
