package record

// words are texts that records write as one byte: words of the domain, and the
// practice of one meaning one byte for ever. The list is part of the format:
// append to it, never change or remove a line. It may grow to 126.
var words = []string{
	"user", "portal_user",
	"client", "note", "document", "practice", "form_template", "member",
	"invited", "active", "removed", "archived",
	"view", "collaborate",
	"assigned", "client_grant", "full_clinical_access", "administrator", "scheduler", "biller",
	"forms_administrator", "practitioner", "portal_own", "portal_access",
	"unknown_action", "bad_input", "other_practice", "not_active", "protected_note", "scope",
	"portal_off", "other_profile", "permission", "no_basis", "unavailable", "allowed", "denied",
	"self", "parent", "guardian", "spouse", "other",
	"progress", "treatment_plan", "assessment", "psychotherapy", "sud_counseling",
	"treatment", "payment", "operations",
	"client.list", "chart.open", "demographics.read", "demographics.write", "diagnosis.read",
	"billing.read", "billing.manage", "appointment.read", "appointment.manage", "access.manage",
	"client.reassign", "profile.create_second", "contact.manage", "contact.link_self",
	"portal.invite", "portal.permit", "message.send", "client.archive", "client.merge",
	"note.read", "note.write", "note.cosign", "document.send", "document.read",
	"client.create", "contact.search", "member.list", "member.invite", "member.remove", "member.roles",
	"member.full_clinical_access", "settings.manage", "billing_settings.manage", "portal_settings.manage",
	"record.read", "form_template.manage", "member.out_of_office",
	"portal.profile.enter", "portal.appointments.view", "portal.appointments.request",
	"portal.appointments.cancel", "portal.information.manage", "portal.demographics.manage",
	"portal.legal_sex.manage", "portal.documents.upload", "portal.messages.send",
	"portal.documents.view", "portal.documents.complete",
	"view_appointments", "online_booking", "manage_information", "demographics", "legal_sex",
	"cancel_appointments", "upload_documents", "messages",
}

var (
	wordTexts = make([][]byte, len(words))
	wordIndex = make(map[string]byte, len(words))
)

func init() {
	for i, w := range words {
		wordTexts[i], wordIndex[w] = []byte(w), byte(i)
	}
}
