# How the answer is put: which code it carries, its sentences, and until when it holds. Nothing here
# decides whether something is allowed.
package authz

import data.rules

# METADATA
# title: The parts that every answer has
# description: The sentences come from the table of reasons, in English.
# custom:
#   id: verdict
_verdict := {
	"allow": allow,
	"code": code,
	"bases": _shown_bases,
	"reason_admin": {"en": data.tables.reasons[code].admin},
	"reason_user": {"en": data.tables.reasons[code].user},
}

# METADATA
# title: The code of an allowance
# description: The most specific basis that holds, by the order in tables/order.
# custom:
#   id: code_of_allowance
code := _held[0] if allow

# METADATA
# title: The code of a denial
# description: The first denial that applies, by the order in tables/order.
# custom:
#   id: code_of_denial
code := _refused[0] if not allow

# METADATA
# title: The bases that hold, in order
# description: From the most specific to the least.
# custom:
#   id: held
_held := [basis | some basis in data.tables.order.bases; basis in bases]

# METADATA
# title: The denials that apply, in order
# description: From the first to look at to the last.
# custom:
#   id: refused
_refused := [denial | some denial in data.tables.order.denials; denial in _refusals]

# METADATA
# title: An allowance shows every basis that holds
# description: So that nobody believes that taking one away is enough.
# custom:
#   id: shown_bases_of_allowance
_shown_bases := _held if allow

# METADATA
# title: A denial shows no basis
# description: A basis that a denial overrides gave nothing.
# custom:
#   id: shown_bases_of_denial
_shown_bases := [] if not allow

# METADATA
# title: "Refused: by a denial"
# description: The denials that win over every basis are the first reasons of a refusal.
# custom:
#   id: refusal_denials
_refusals contains denial if some denial in denials

# METADATA
# title: "Refused: the grant's scope is too small"
# description: >-
#   The only thing that stands in the way is that the grant is for viewing. It is said only where no
#   other basis holds, since a grant never takes access away.
# custom:
#   id: refusal_scope
_refusals contains "scope" if rules.grants.scope_too_small

# METADATA
# title: "Refused: no basis"
# description: The default answer to everybody who has no reason to be there.
# custom:
#   id: refusal_no_basis
#   because: >-
#     nothing gives {subject.id} this: no assignment, no grant that is in force and wide enough,
#     no role[; the grant on file is to {grant.scope}, from {grant.not_before}]
_refusals contains "no_basis" if not permitted

# METADATA
# title: An answer holds until something changes
# description: Most bases have no end of their own.
# custom:
#   id: no_end
default _end := {}

# METADATA
# title: An answer that rests on a grant with an end ends with it
# description: >-
#   The grant must be the only basis, and must have an end, for the answer to have one. Whoever
#   keeps the answer must ask again at that time.
# custom:
#   id: valid_until
_end := {"valid_until": input.grant.expires_at} if {
	allow
	not _lasting
}

# METADATA
# title: A basis other than the grant holds
# description: Such a basis has no end.
# custom:
#   id: lasting_basis
_lasting if {
	some basis in bases
	basis != "client_grant"
}

# METADATA
# title: The grant has no end
# description: A grant that is given without an end carries the last moment of the year 9999.
# custom:
#   id: lasting_grant
_lasting if input.grant.expires_at == "9999-12-31T23:59:59.999999Z"
