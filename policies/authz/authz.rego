# METADATA
# title: The one entry point
# description: >-
#   Gathers what the topics say and makes one answer of it. Nothing is allowed unless a basis
#   holds, and a denial always wins over every basis. The whole list of bases and denials is
#   on this page; what each means stands in its folder under rules/.
# schemas:
#   - data.tables: schema.tables
package authz

import data.rules

# METADATA
# title: The decision
# description: >-
#   The answer with its code, all bases that hold, a sentence for the administrator and one
#   for the person who asked, and the time until which it holds where there is one.
# entrypoint: true
# custom:
#   id: decision
decision := object.union(_verdict, _end)

# METADATA
# title: Nothing is allowed by itself
# description: What no rule allows is denied.
# entrypoint: true
# custom:
#   id: default_deny
default allow := false

# METADATA
# title: Allowed if a basis holds and nothing forbids it
# description: Every basis is enough by itself. One denial is enough to refuse, whatever the bases.
# custom:
#   id: allow
allow if {
	permitted
	not denied
}

# METADATA
# title: At least one basis holds
# description: A basis is the reason why an allowance holds, such as being the assigned practitioner.
# custom:
#   id: permitted
permitted if some _ in bases

# METADATA
# title: At least one denial applies
# description: These denials win over every basis.
# custom:
#   id: denied
denied if some _ in denials

# METADATA
# title: "Basis: assigned practitioner"
# description: See rules/assigned.
# custom:
#   id: basis_assigned
bases contains "assigned" if rules.assigned.permit

# METADATA
# title: "Basis: a grant on this client"
# description: See rules/grants.
# custom:
#   id: basis_client_grant
bases contains "client_grant" if rules.grants.permit

# METADATA
# title: "Basis: full clinical access"
# description: See rules/full_clinical_access.
# custom:
#   id: basis_full_clinical_access
bases contains "full_clinical_access" if rules.full_clinical_access.permit

# METADATA
# title: "Basis: administrator"
# description: See rules/administrator.
# custom:
#   id: basis_administrator
bases contains "administrator" if rules.administrator.permit

# METADATA
# title: "Basis: scheduler"
# description: See rules/scheduler.
# custom:
#   id: basis_scheduler
bases contains "scheduler" if rules.scheduler.permit

# METADATA
# title: "Basis: biller"
# description: See rules/biller.
# custom:
#   id: basis_biller
bases contains "biller" if rules.biller.permit

# METADATA
# title: "Basis: forms administrator"
# description: See rules/forms_administrator.
# custom:
#   id: basis_forms_administrator
bases contains "forms_administrator" if rules.forms_administrator.permit

# METADATA
# title: "Basis: any practitioner"
# description: See rules/practitioner.
# custom:
#   id: basis_practitioner
bases contains "practitioner" if rules.practitioner.permit

# METADATA
# title: "Basis: the client's own portal login"
# description: See rules/portal.
# custom:
#   id: basis_portal_own
bases contains "portal_own" if rules.portal.own

# METADATA
# title: "Basis: access to the portal for a contact"
# description: See rules/portal.
# custom:
#   id: basis_portal_access
bases contains "portal_access" if rules.portal.access

# METADATA
# title: "Denial: unknown action"
# description: See rules/request.
# custom:
#   id: denial_unknown_action
denials contains "unknown_action" if rules.request.unknown_action

# METADATA
# title: "Denial: a request that does not hold together"
# description: See rules/request.
# custom:
#   id: denial_bad_input
denials contains "bad_input" if rules.request.bad_input

# METADATA
# title: "Denial: another practice"
# description: See rules/practice.
# custom:
#   id: denial_other_practice
denials contains "other_practice" if rules.practice.other_practice

# METADATA
# title: "Denial: membership not active"
# description: See rules/practice.
# custom:
#   id: denial_not_active
denials contains "not_active" if rules.practice.not_active

# METADATA
# title: "Denial: protected note"
# description: See rules/notes.
# custom:
#   id: denial_protected_note
denials contains "protected_note" if rules.notes.protected_note

# METADATA
# title: "Denial: archived client"
# description: See rules/archived.
# custom:
#   id: denial_archived
denials contains "archived" if rules.archived.archived

# METADATA
# title: "Denial: access to the portal is switched off"
# description: See rules/portal.
# custom:
#   id: denial_portal_off
denials contains "portal_off" if rules.portal.portal_off

# METADATA
# title: "Denial: another profile of the portal was entered"
# description: See rules/portal.
# custom:
#   id: denial_other_profile
denials contains "other_profile" if rules.portal.other_profile

# METADATA
# title: "Denial: a right in the portal is missing"
# description: See rules/portal.
# custom:
#   id: denial_permission
denials contains "permission" if rules.portal.permission
