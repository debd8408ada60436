# METADATA
# title: What no policy may change
# description: >-
#   Every release is proved to hold to these properties, in all situations, whatever its rules and
#   tables say. The product carries its own copy of this file, and proves that one: to take a
#   property out here, or to weaken it, changes nothing.
# schemas:
#   - data.tables: schema.tables
package properties.core

import data.authz

# METADATA
# title: Nothing is allowed in another practice
# description: >-
#   What staff do lies in the practice of their own membership, whatever roles they have there or
#   elsewhere (rules 103 to 105). No setting changes it.
# custom:
#   id: other_practice_never
#   kind: never
other_practice_never if {
	authz.allow
	input.subject.type == "user"
	not _in_own_practice
}

# METADATA
# title: The practice of the membership is that of the resource
# description: By the client, or by the practice that is asked about.
# custom:
#   id: in_own_practice
_in_own_practice if {
	_own_membership
	_about_the_client
	input.client.practice == input.member.practice
}

# METADATA
# title: The practice itself is asked about
# description: Its id is the resource's.
# custom:
#   id: in_own_practice_itself
_in_own_practice if {
	_own_membership
	input.resource.type == "practice"
	input.resource.id == input.member.practice
}

# METADATA
# title: Something of the practice is asked about
# description: The request says of which practice.
# custom:
#   id: in_own_practice_of
_in_own_practice if {
	_own_membership
	input.resource.type in {"form_template", "member"}
	input.resource.properties.practice == input.member.practice
}

# METADATA
# title: The membership is his who asks
# description: Never somebody else's.
# custom:
#   id: own_membership
_own_membership if input.member.user == input.subject.id

# METADATA
# title: The client on file is the one asked about
# description: And not another one.
# custom:
#   id: about_the_client
_about_the_client if {
	input.resource.type == "client"
	input.client.id == input.resource.id
}

# METADATA
# title: The client on file is the one of the note or document
# description: And not another one.
# custom:
#   id: about_the_client_of
_about_the_client if {
	input.resource.type in {"note", "document"}
	input.client.id == input.resource.properties.client
}

# METADATA
# title: A removed member may do nothing
# description: Nor somebody who was invited and has not accepted (rules 57 and 59).
# custom:
#   id: removed_member_never
#   kind: never
removed_member_never if {
	authz.allow
	input.subject.type == "user"
	not input.member.status == "active"
}

# METADATA
# title: A protected note is open to its author alone
# description: >-
#   Psychotherapy notes and substance use counseling notes, under every setting and on every basis
#   (rules 26, 97 and 100).
# custom:
#   id: protected_note_author_only
#   kind: never
protected_note_author_only if {
	authz.allow
	input.resource.type == "note"
	input.resource.properties.kind in {"psychotherapy", "sud_counseling"}
	not input.resource.properties.author == input.subject.id
}

# METADATA
# title: A grant that is not in force gives nothing
# description: >-
#   Before its start, and from its end on, whatever is allowed would be allowed without it too
#   (rules 41 and 43).
# custom:
#   id: ended_grant_never
#   kind: gives_nothing
#   of: grant
ended_grant_never if not _grant_in_force

# METADATA
# title: The grant holds now
# description: From its start up to, but not including, its end.
# custom:
#   id: grant_holds_now
_grant_in_force if {
	input.grant.not_before <= input.context.now
	input.context.latest < input.grant.expires_at
}

# METADATA
# title: A grant never takes access away
# description: Whatever is allowed without it is allowed with it (rule 115).
# custom:
#   id: grant_never_takes
#   kind: takes_nothing
#   of: grant
grant_never_takes if input.grant

# METADATA
# title: Nothing is allowed without a basis
# description: What no rule gives is denied.
# custom:
#   id: no_allowance_without_basis
#   kind: never
no_allowance_without_basis if {
	authz.allow
	not _some_basis
}

# METADATA
# title: A basis holds
# description: Of whatever kind.
# custom:
#   id: some_basis
_some_basis if some _ in authz.bases

# METADATA
# title: Whoever asks is named
# description: A subject without an id, or of an unknown type, may do nothing (rules 11 and 118).
# custom:
#   id: nobody_never
#   kind: never
nobody_never if {
	authz.allow
	not _somebody
}

# METADATA
# title: Somebody asks
# description: A user of staff or a portal login, with an id.
# custom:
#   id: somebody
_somebody if {
	input.subject.type in {"user", "portal_user"}
	input.subject.id != ""
}

# METADATA
# title: Profiles are never merged
# description: They stay separate, with all that was written in each (rule 148).
# custom:
#   id: merge_never
#   kind: never
merge_never if {
	authz.allow
	input.action.name == "client.merge"
}

# METADATA
# title: An action that is not in the table is never allowed
# description: Whatever other tables or rules say of it (rule 118).
# custom:
#   id: unknown_action_never
#   kind: never
unknown_action_never if {
	authz.allow
	not data.tables.actions[input.action.name]
}
