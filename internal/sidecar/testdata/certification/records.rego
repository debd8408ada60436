# A bundle of one's own: the fixture that the AuthZEN 1.0 certification scenario asks for. It
# decides on the AuthZEN request alone, which it gets as it came.
package authzen

default allow := false

# Everybody reads the records.
allow if {
	input.subject in readers
	input.action.name == "read"
	input.resource.id in records
	input.resource.type == "record"
}

# The first of them also writes them, unless they are archived, and deletes them softly.
allow if {
	writer
	input.action.name == "write"
	not archived
}

allow if {
	writer
	input.action.name == "delete"
	input.action.properties.soft == true
}

# An administrator writes archived records, too.
allow if {
	input.subject.type == "user"
	input.subject.properties.role == "admin"
	input.action.name == "write"
	input.resource.type == "record"
}

readers contains input.subject if {
	input.subject.type == "user"
	input.subject.id in {"alice", "bob"}
}

records := {"record-1", "record-2"}

writer if {
	input.subject.type == "user"
	input.subject.id == "alice"
	input.resource.type == "record"
	input.resource.id in records
}

archived if input.resource.properties.status == "archived"

# What a decision may also look like: one with a context.
explained := {"decision": allow, "context": {"reason_admin": {"en": "By the fixture."}}}

# Documents that are no decision: each must be a denial.
undefined_decision if input.nothing

text_decision := "true"

number_decision := 1

list_decision := [true]

object_decision := {"allow": true}

worded_decision := {"decision": "true"}

spoilt_decision := {"decision": true, "context": "because"}

# A document that fails while it is evaluated.
conflict := 1 if input.subject

conflict := 2 if input.subject

# What the bundle was given, for tests that ask for it.
echo := input
