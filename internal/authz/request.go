package authz

// Subject types (DESIGN 5).
const (
	SubjectUser   = "user"        // a login of staff; the membership is looked up in the resource's practice
	SubjectPortal = "portal_user" // a person's portal login
)

// Resource types (DESIGN 11).
const (
	ResourceClient       = "client"
	ResourceNote         = "note"
	ResourceDocument     = "document"
	ResourcePractice     = "practice"
	ResourceFormTemplate = "form_template"
	ResourceMember       = "member"
)

// Request is one question: may Subject do Action to Resource?
// Its strings are copies; nothing in it points into a server's buffers.
type Request struct {
	Subject  Subject
	Action   string
	Resource Resource
	Context  Context
}

// Subject names who asks for access. Id is a user id or a portal login.
type Subject struct {
	Type string
	ID   string
}

// Resource names what access is asked to. Properties are those of the caller's
// own record (a note's author, a document's recipient): the caller owns these
// records and is believed on them only.
type Resource struct {
	Type       string
	ID         string
	Properties Properties
}

// Properties holds what a caller said of its record, exactly as it said it:
// any JSON value, also one of the wrong type. Only members that the schema
// names are kept (see KeepProperties); the policy judges their values.
type Properties map[string]any

// Context is what Chartgate reads of a request's context (DESIGN 11). All else
// that a caller sends there, "now" above all, is ignored and recorded nowhere.
type Context struct {
	Purpose       string // purpose of use, a word such as "treatment"; "" when not said
	PortalProfile string // the client id of the portal profile that was entered; "" when none
	MinRevision   string // token of the oldest facts the caller accepts; "" when any
}

// PropertyNames are the members of resource.properties that the schema of the
// facts document names. Every other one is dropped at the door.
var PropertyNames = []string{"author", "client", "kind", "practice", "recipient", "signed"}

// KeepProperties returns the members of m that the schema names, or nil when
// there is none. A value that no rule could accept is replaced by the plainest
// of its type ("" for a text that is no id, 0, [], {}), so that what is judged
// and what is recorded are the same, and neither holds free text.
func KeepProperties(m map[string]any) Properties {
	var kept Properties
	for _, name := range PropertyNames {
		v, ok := m[name]
		if !ok {
			continue
		}
		if kept == nil {
			kept = make(Properties, len(PropertyNames))
		}
		switch v := v.(type) {
		case nil, bool:
			kept[name] = v
		case string:
			kept[name] = cleanID(v)
		case []any:
			kept[name] = []any{}
		case map[string]any:
			kept[name] = map[string]any{}
		default:
			kept[name] = int64(0)
		}
	}
	return kept
}

// Clean returns r with every part that no rule could accept made empty, which
// the policy answers with bad_input or unknown_action.
func (r Request) Clean() Request {
	r.Subject.Type, r.Subject.ID = cleanID(r.Subject.Type), cleanID(r.Subject.ID)
	r.Action = cleanID(r.Action)
	r.Resource.Type, r.Resource.ID = cleanID(r.Resource.Type), cleanID(r.Resource.ID)
	r.Resource.Properties = KeepProperties(r.Resource.Properties)
	r.Context.PortalProfile = cleanID(r.Context.PortalProfile)
	if !ValidPurpose(r.Context.Purpose) {
		r.Context.Purpose = ""
	}
	return r
}

func cleanID(s string) string {
	if ValidID(s) {
		return s
	}
	return ""
}

// Text returns the property if it is a valid id, else "".
func (p Properties) Text(name string) string {
	s, _ := p[name].(string)
	if !ValidID(s) {
		return ""
	}
	return s
}

// Client returns the id of the client that the resource belongs to, or "" when
// it belongs to none or does not say which (DESIGN 11, resource types).
func (r Resource) Client() string {
	switch r.Type {
	case ResourceClient:
		if ValidID(r.ID) {
			return r.ID
		}
	case ResourceNote, ResourceDocument:
		return r.Properties.Text("client")
	}
	return ""
}

// Practice returns the id of the practice that the resource names itself, or ""
// when the client leads to it or none is named.
func (r Resource) Practice() string {
	switch r.Type {
	case ResourcePractice:
		if ValidID(r.ID) {
			return r.ID
		}
	case ResourceFormTemplate, ResourceMember:
		return r.Properties.Text("practice")
	}
	return ""
}
