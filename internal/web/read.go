package web

import (
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
)

// Read reads a request's body into a struct: strict JSON, exact member names,
// nothing that the struct does not name. A field is named by its json tag and
// must be there unless the tag says omitempty; null is taken only by pointers.
// Fields may be strings, booleans, whole numbers, time.Time (RFC 3339), any,
// and pointers, slices, string maps and structs of these. The error names every
// wrong member by JSON pointer; nothing in the result points into the request.
func Read(c *fiber.Ctx, into any) error {
	if err := RequireJSON(c); err != nil {
		return err
	}
	object, err := StrictObject(c.BodyRaw())
	if err != nil {
		return err
	}
	d := decoder{}
	d.object(object, reflect.ValueOf(into).Elem(), "")
	return d.problem()
}

// RequireJSON refuses a body that does not say it is JSON, or that is
// compressed, with 415.
func RequireJSON(c *fiber.Ctx) error {
	if header := c.Get(fiber.HeaderContentType); header != fiber.MIMEApplicationJSON {
		if kind, _, err := mime.ParseMediaType(header); err != nil || kind != fiber.MIMEApplicationJSON {
			return unsupported("the body's Content-Type must be application/json")
		}
	}
	if coding := c.Get(fiber.HeaderContentEncoding); coding != "" && !strings.EqualFold(coding, "identity") {
		return unsupported("a compressed body is not taken here")
	}
	return nil
}

func unsupported(detail string) error {
	return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Status: http.StatusUnsupportedMediaType, Detail: detail}
}

// decoder puts a parsed JSON value into Go values and gathers what is wrong.
type decoder struct {
	fields []authz.Field
}

func (d *decoder) wrong(pointer, detail string) {
	d.fields = append(d.fields, authz.Field{Pointer: pointer, Detail: detail})
}

func (d *decoder) problem() error {
	if len(d.fields) == 0 {
		return nil
	}
	said := make([]string, len(d.fields))
	for i, f := range d.fields {
		said[i] = f.Pointer + " " + f.Detail
	}
	return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Fields: d.fields,
		Detail: "the body is not as it must be: " + strings.Join(said, "; ")}
}

func (d *decoder) object(object map[string]any, into reflect.Value, pointer string) {
	known := map[string]bool{}
	for _, field := range reflect.VisibleFields(into.Type()) {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		known[name] = true
		at := pointer + "/" + escapePointer(name)
		if v, ok := object[name]; ok {
			d.value(v, into.FieldByIndex(field.Index), at)
		} else if options != "omitempty" {
			d.wrong(at, "is missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !known[name] {
			d.wrong(pointer+"/"+escapePointer(name), "is not known here")
		}
	}
}

var timeType = reflect.TypeFor[time.Time]()

func (d *decoder) value(v any, into reflect.Value, pointer string) {
	if into.Type() == timeType {
		text, _ := v.(string)
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			d.wrong(pointer, "must be a time such as 2026-01-31T09:00:00Z")
			return
		}
		into.Set(reflect.ValueOf(t.UTC()))
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		if v != nil {
			into.Set(reflect.New(into.Type().Elem()))
			d.value(v, into.Elem(), pointer)
		}
	case reflect.Interface:
		if v != nil {
			into.Set(reflect.ValueOf(v))
		}
	case reflect.String:
		put(d, v, pointer, "must be a string", into.SetString)
	case reflect.Bool:
		put(d, v, pointer, "must be true or false", into.SetBool)
	case reflect.Int, reflect.Int64:
		d.whole(v, into, pointer)
	case reflect.Slice:
		d.slice(v, into, pointer)
	case reflect.Map:
		d.table(v, into, pointer)
	case reflect.Struct:
		put(d, v, pointer, "must be an object", func(m map[string]any) { d.object(m, into, pointer) })
	default:
		panic("web.Read cannot fill a " + into.Type().String())
	}
}

func put[T any](d *decoder, v any, pointer, otherwise string, set func(T)) {
	if value, ok := v.(T); ok {
		set(value)
		return
	}
	d.wrong(pointer, otherwise)
}

func (d *decoder) whole(v any, into reflect.Value, pointer string) {
	number, _ := v.(json.Number)
	n, err := number.Int64()
	if err != nil || into.OverflowInt(n) {
		d.wrong(pointer, "must be a whole number")
		return
	}
	into.SetInt(n)
}

func (d *decoder) slice(v any, into reflect.Value, pointer string) {
	put(d, v, pointer, "must be an array", func(items []any) {
		into.Set(reflect.MakeSlice(into.Type(), len(items), len(items)))
		for i, item := range items {
			d.value(item, into.Index(i), pointer+"/"+strconv.Itoa(i))
		}
	})
}

func (d *decoder) table(v any, into reflect.Value, pointer string) {
	put(d, v, pointer, "must be an object", func(members map[string]any) {
		into.Set(reflect.MakeMap(into.Type()))
		for _, name := range slices.Sorted(maps.Keys(members)) {
			element := reflect.New(into.Type().Elem()).Elem()
			d.value(members[name], element, pointer+"/"+escapePointer(name))
			into.SetMapIndex(reflect.ValueOf(name), element)
		}
	})
}
