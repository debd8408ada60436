# METADATA
# title: Which practice a request is about
# description: >-
#   Every resource belongs to one practice, and every person is known there only by the membership
#   he has in it. What cannot be shown to belong together counts as another practice.
package lib.practice

import data.lib.request

# METADATA
# title: A user of staff is a member of the resource's practice
# description: The membership is his own and is in the practice that the resource belongs to.
# custom:
#   id: staff_belongs
subject_belongs if {
	input.subject.type == "user"
	input.member.user == input.subject.id
	_in_members_practice
}

# METADATA
# title: A portal login is judged by its access on the client
# description: It has no membership. Here it is only asked that the client is there.
# custom:
#   id: portal_belongs
subject_belongs if {
	input.subject.type == "portal_user"
	_client_is_the_one_asked_for
	_stated_practice_agrees
}

# METADATA
# title: The client belongs to the member's practice
# description: Both the client and the membership are on file, and name the same practice.
# custom:
#   id: client_in_members_practice
_in_members_practice if {
	_client_is_the_one_asked_for
	_stated_practice_agrees
	input.client.practice == input.member.practice
}

# METADATA
# title: The practice is the member's own
# description: For what is asked of the practice as a whole.
# custom:
#   id: practice_is_members
_in_members_practice if {
	request.type == "practice"
	input.resource.id == input.member.practice
}

# METADATA
# title: The form template or the member is of the member's practice
# description: The request names the practice of these.
# custom:
#   id: record_in_members_practice
_in_members_practice if {
	request.type in {"form_template", "member"}
	input.resource.properties.practice == input.member.practice
}

# METADATA
# title: The client on file is the one asked for
# description: For what is asked of a client.
# custom:
#   id: client_asked_for
_client_is_the_one_asked_for if {
	request.type == "client"
	input.client.id == input.resource.id
}

# METADATA
# title: The client on file is the one that the note or document names
# description: For what is asked of a note or a document.
# custom:
#   id: client_of_record_asked_for
_client_is_the_one_asked_for if {
	request.type in {"note", "document"}
	input.client.id == input.resource.properties.client
}

# METADATA
# title: A request need not name the client's practice
# description: The client leads to it.
# custom:
#   id: no_practice_stated
_stated_practice_agrees if not request.states_practice

# METADATA
# title: A practice that the request names is the client's
# description: A request that names one practice and a client of another is refused (rule 105).
# custom:
#   id: stated_practice_agrees
_stated_practice_agrees if input.resource.properties.practice == input.client.practice
