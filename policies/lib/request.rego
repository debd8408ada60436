# METADATA
# title: What a request must say
# description: >-
#   These checks read the request alone, before anything is known of the person or the client.
#   Each is named for the good case; what cannot be shown to be good is refused.
# schemas:
#   - data.tables: schema.tables
package lib.request

# METADATA
# title: The type of resource that the action belongs to
# description: >-
#   See tables/actions. Rules ask for this type, which the action fixes, and not for the one that
#   the request states: the two are compared once, below.
# custom:
#   id: resource_type
type := data.tables.actions[input.action.name].on

# METADATA
# title: The action is one that the table names
# description: See tables/actions.
# custom:
#   id: known_action
known_action if type

# METADATA
# title: The request holds together
# description: It names who asks and what for, and says what must be known of the resource.
# custom:
#   id: sound_request
sound if {
	_subject_named
	_resource_named
	_properties_readable
	_properties_sound
	_stated_practice_readable
}

# METADATA
# title: The subject is named
# description: A user of staff or a portal login, with an id that is not empty.
# custom:
#   id: subject_named
_subject_named if {
	input.subject.type in {"user", "portal_user"}
	_text(input.subject.id)
}

# METADATA
# title: The resource is named
# description: It has an id that is not empty and is of the type that the action belongs to.
# custom:
#   id: resource_named
_resource_named if {
	input.resource.type == type
	_text(input.resource.id)
}

# METADATA
# title: A client or a practice needs no properties
# description: The id says all.
# custom:
#   id: properties_of_client_or_practice
_properties_sound if type in {"client", "practice"}

# METADATA
# title: A note says whose it is
# description: Its client, its author, its kind and whether it is signed.
# custom:
#   id: properties_of_note
_properties_sound if {
	type == "note"
	_text(input.resource.properties.client)
	_text(input.resource.properties.author)
	_kind_of_note
	is_boolean(input.resource.properties.signed)
}

# METADATA
# title: An ordinary kind of note
# description: See tables/notes.
# custom:
#   id: kind_ordinary
_kind_of_note if input.resource.properties.kind in data.tables.notes.ordinary

# METADATA
# title: A protected kind of note
# description: See tables/notes.
# custom:
#   id: kind_protected
_kind_of_note if input.resource.properties.kind in data.tables.notes.protected

# METADATA
# title: A document says whose it is
# description: Its client, its kind and who is to receive it.
# custom:
#   id: properties_of_document
_properties_sound if {
	type == "document"
	_text(input.resource.properties.client)
	_text(input.resource.properties.kind)
	_text(input.resource.properties.recipient)
}

# METADATA
# title: A form template or a member says of which practice
# description: No client leads to the practice, so the request must name it.
# custom:
#   id: properties_of_practice_record
_properties_sound if {
	type in {"form_template", "member"}
	_text(input.resource.properties.practice)
}

# METADATA
# title: Properties may be left out
# description: Where none are needed.
# custom:
#   id: properties_absent
_properties_readable if not _states_properties

# METADATA
# title: Properties have names
# description: Properties that are sent are a set of named values, and nothing else.
# custom:
#   id: properties_named
_properties_readable if is_object(input.resource.properties)

# METADATA
# title: Properties are sent
# description: Any value at all, even one that cannot be read.
# custom:
#   id: states_properties
_states_properties if _ = input.resource.properties

# METADATA
# title: The practice may be left out
# description: The client leads to it.
# custom:
#   id: practice_unstated
_stated_practice_readable if not states_practice

# METADATA
# title: A practice that is named is an id
# description: It is text that is not empty.
# custom:
#   id: practice_readable
_stated_practice_readable if _text(input.resource.properties.practice)

# METADATA
# title: The request names a practice
# description: Any value at all, even one that cannot be read.
# custom:
#   id: states_practice
states_practice if _ = input.resource.properties.practice

# METADATA
# title: Text that is not empty
# description: Neither nothing, nor a number, nor a list passes for an id.
# custom:
#   id: text
_text(value) if {
	is_string(value)
	value != ""
}
