# METADATA
# title: Practices never mix
# description: What holds for every person, whatever his roles. No setting changes it.
package rules.practice

import data.lib.practice

# METADATA
# title: Nobody reaches into another practice
# description: >-
#   Applies to every role, administrators included. A client that does not exist gets the same
#   answer (rules 103 to 105, 107 and 111).
# custom:
#   id: other_practice
#   because: "there is no such record in a practice that {subject.id} belongs to"
other_practice if not practice.subject_belongs

# METADATA
# title: Only active members may do anything
# description: >-
#   Somebody who was invited and has not accepted, or was removed, may do nothing, whatever still
#   names him (rules 57 and 59).
# custom:
#   id: not_active
#   because: "the membership of {subject.id} is not active[: it is {member.status}]"
not_active if not _active

# METADATA
# title: The membership is active
# description: The member was invited and accepted, and has not been removed.
# custom:
#   id: active_member
_active if input.member.status == "active"

# METADATA
# title: A portal login has no membership
# description: Whether it may do anything is said by its access on the client.
# custom:
#   id: active_portal
_active if input.subject.type == "portal_user"
