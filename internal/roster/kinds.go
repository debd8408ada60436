package roster

import "strings"

// form is how a column looks in NDJSON; in CSV all are text.
type form int

const (
	formText   form = iota // a string
	formFlag               // true or false
	formList               // a list of strings; in CSV separated by ";", "|", "," or blanks
	formObject             // an object; in CSV its JSON text
)

// column is one column of a kind of file.
type column struct {
	name     string // in the files
	stored   string // in the staging table
	form     form
	required bool                      // every row must say it
	blank    any                       // what a blank cell says; nil: nothing, as if it were missing
	read     func(string) (any, error) // of a cell that is not blank
	readList func([]string) (any, error)
}

// kind is one kind of file. The first keys columns are what a row is known by;
// without them it cannot be staged.
type kind struct {
	name    string // of the file, without its ending, and of the fact table
	staging string
	keys    int
	columns []column
}

// Kinds are named by their files.
const (
	Practices = "practices"
	Members   = "members"
	Clients   = "clients"
	Grants    = "grants"
)

// kinds are in the order in which they are read and written: each may name
// rows of those before it.
var kinds = []*kind{
	{name: Practices, staging: "roster_practices", keys: 1, columns: []column{
		{name: "id", stored: "id", required: true, read: readID},
		{name: "name", stored: "name", blank: "", read: readText},
		{name: "preset", stored: "preset", read: readPreset},
		{name: "overrides", stored: "overrides", form: formObject, read: readOverrides},
	}},
	{name: Members, staging: "roster_members", keys: 2, columns: []column{
		{name: "practice", stored: "practice", required: true, read: readID},
		{name: "user", stored: "user_id", required: true, read: readID},
		{name: "name", stored: "name", required: true, read: readText},
		{name: "email", stored: "email", blank: "", read: readEmail},
		{name: "roles", stored: "roles", form: formList, blank: []string{}, read: splitRoles, readList: readRoles},
		{name: "status", stored: "status", read: oneOf(memberStatuses)},
		{name: "owner", stored: "owner", form: formFlag, read: readFlag},
		{name: "full_clinical_access", stored: "full_clinical_access", form: formFlag, read: readFlag},
		{name: "billing_enabled", stored: "billing_enabled", form: formFlag, read: readFlag},
	}},
	{name: Clients, staging: "roster_clients", keys: 1, columns: []column{
		{name: "id", stored: "id", required: true, read: readID},
		{name: "practice", stored: "practice", required: true, read: readID},
		{name: "first_name", stored: "first_name", required: true, read: readText},
		{name: "last_name", stored: "last_name", required: true, read: readText},
		{name: "label", stored: "label", blank: "", read: readText},
		{name: "email", stored: "email", blank: "", read: readEmail},
		{name: "assigned", stored: "assigned", blank: "", read: readID},
		{name: "status", stored: "status", read: oneOf(clientStatuses)},
	}},
	{name: Grants, staging: "roster_grants", keys: 2, columns: []column{
		{name: "client", stored: "client", required: true, read: readID},
		{name: "user", stored: "user_id", required: true, read: readID},
		{name: "scope", stored: "scope", read: oneOf(scopes)},
		{name: "not_before", stored: "not_before", read: readTime},
		{name: "expires_at", stored: "expires_at", blank: noEnd, read: readTime},
		{name: "reason", stored: "reason", blank: "", read: readText},
		{name: "granted_by", stored: "granted_by", read: readID},
	}},
}

// stagingColumns are the columns of COPY: where a row stands, then what it says.
func (k *kind) stagingColumns() []string {
	columns := []string{"n", "file", "line"}
	for _, c := range k.columns {
		columns = append(columns, c.stored)
	}
	return columns
}

// index returns the place of the column called name, or -1.
func (k *kind) index(name string) int {
	for i := range k.columns {
		if k.columns[i].name == name {
			return i
		}
	}
	return -1
}

// names lists the columns for an error.
func (k *kind) names() string {
	names := make([]string, len(k.columns))
	for i := range k.columns {
		names[i] = k.columns[i].name
	}
	return strings.Join(names, ", ")
}

func kindOf(name string) *kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	return nil
}

// cell is what a file says in one column of one row.
type cell struct {
	said bool     // the column, or the member, is there
	text string   // "" is a blank cell, or null
	list []string // instead of text, for a list in NDJSON
	err  error    // the value is of a wrong type
}

// value turns a cell into a value for the staging table; nil stands for
// "not said". Its errors say what the cell must be.
func (c *column) value(said cell) (any, error) {
	switch {
	case said.err != nil:
		return nil, said.err
	case said.list != nil:
		return c.readList(said.list)
	case said.text != "":
		return c.read(said.text)
	case c.required:
		return nil, errMissing
	case said.said:
		return c.blank, nil
	}
	return nil, nil
}
