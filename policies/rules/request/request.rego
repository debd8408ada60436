# METADATA
# title: Requests that cannot be judged
# description: Refused before anything is looked up, for everybody alike.
package rules.request

import data.lib.request

# METADATA
# title: Nobody may do what is not in the table of actions
# description: A misspelt action, or one that does not exist yet, is refused (rule 118).
# custom:
#   id: unknown_action
#   because: "there is no action {action.name}"
unknown_action if not request.known_action

# METADATA
# title: A request must say who asks, and for what
# description: >-
#   Something that is missing, empty or of a wrong kind is refused. Nothing is guessed (rules 11
#   and 118).
# custom:
#   id: bad_input
#   because: "the request does not say, in a form that can be read, who asks and for what"
bad_input if not request.sound
