# METADATA
# title: What the member is in this practice
# description: >-
#   Roles count in the practice of the resource only: the membership that a rule sees is the one
#   there. Roles that a request claims are not looked at.
package lib.member

# METADATA
# title: He is an administrator here
# description: By the roles of his membership.
# custom:
#   id: administrator
administrator if _holds("administrator")

# METADATA
# title: He is a practitioner here
# description: >-
#   Assignment, grants and full clinical access give nothing to somebody who is not a practitioner,
#   or is none any more (rules 40 and 63).
# custom:
#   id: practitioner
practitioner if _holds("practitioner")

# METADATA
# title: He is a scheduler here
# description: By the roles of his membership.
# custom:
#   id: scheduler
scheduler if _holds("scheduler")

# METADATA
# title: He is a biller here
# description: By the roles of his membership.
# custom:
#   id: biller
biller if _holds("biller")

# METADATA
# title: He is a forms administrator here
# description: By the roles of his membership.
# custom:
#   id: forms_administrator
forms_administrator if _holds("forms_administrator")

# METADATA
# title: Billing is switched on for him
# description: The practice can switch a practitioner's view of billing off (rule 101).
# custom:
#   id: billing_enabled
billing_enabled if input.member.billing_enabled == true

# METADATA
# title: The membership has the role
# description: A portal login has no roles, whatever else is known of the person.
# custom:
#   id: role
_holds(role) if {
	input.subject.type == "user"
	role in input.member.roles
}
