package authz

// Document builds the facts document: what a rule can read, and nothing else
// (DESIGN 5; schema in policies/schemas/input.json). It never holds null: what
// is not known is left out. The result is fresh and may be changed.
func Document(r Request, f Facts) map[string]any {
	doc := map[string]any{
		"subject":  map[string]any{"type": r.Subject.Type, "id": r.Subject.ID},
		"action":   map[string]any{"name": r.Action},
		"resource": resourceDocument(r.Resource),
		"context":  contextDocument(r.Context, f),
	}
	if m := f.Member; m != nil {
		doc["member"] = map[string]any{
			"id": m.ID, "user": m.User, "practice": m.Practice, "roles": texts(m.Roles), "status": m.Status,
			"owner": m.Owner, "full_clinical_access": m.FullClinicalAccess, "billing_enabled": m.BillingEnabled,
		}
	}
	if c := f.Client; c != nil {
		client := map[string]any{"id": c.ID, "practice": c.Practice, "status": c.Status}
		if c.Assigned != "" {
			client["assigned"] = c.Assigned
		}
		doc["client"] = client
	}
	if g := f.Grant; g != nil {
		doc["grant"] = map[string]any{
			"scope": g.Scope, "not_before": FormatTime(g.NotBefore), "expires_at": FormatTime(g.ExpiresAt),
		}
	}
	if p := f.Portal; p != nil {
		portal := map[string]any{
			"contact": p.Contact, "enabled": p.Enabled, "own": p.Own,
			"permissions": texts(p.Permissions), "features": texts(p.Features),
		}
		if p.Relationship != "" {
			portal["relationship"] = p.Relationship
		}
		doc["portal"] = portal
	}
	if f.Settings != nil {
		doc["settings"] = f.Settings.Document()
	}
	return doc
}

func resourceDocument(r Resource) map[string]any {
	doc := map[string]any{"type": r.Type, "id": r.ID}
	if r.Properties != nil {
		properties := make(map[string]any, len(r.Properties))
		for name, v := range r.Properties {
			properties[name] = v
		}
		doc["properties"] = properties
	}
	return doc
}

func contextDocument(c Context, f Facts) map[string]any {
	doc := map[string]any{}
	if !f.Now.IsZero() {
		doc["now"] = FormatTime(f.Now)
	}
	if f.Latest.After(f.Now) {
		doc["latest"] = FormatTime(f.Latest)
	} else if !f.Now.IsZero() {
		doc["latest"] = doc["now"]
	}
	if c.Purpose != "" {
		doc["purpose"] = c.Purpose
	}
	if c.PortalProfile != "" {
		doc["portal_profile"] = c.PortalProfile
	}
	return doc
}

func texts(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
