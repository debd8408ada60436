package record

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"chartgate/internal/authz"
)

// The body of a decision, version 1. Numbers are little-endian, times are
// microseconds since 1970.
//
//	0   version        1 byte
//	1   roles          1 byte: bit i for authz.Roles[i]
//	2   flags          2 bytes
//	4   id             16 bytes
//	20  at             8 bytes, when it was decided
//	28  now            8 bytes, facts.now
//	36  latest         8 bytes, facts.latest
//	44  settings       16 bytes, if flagSettings: the first half of the SHA-256 of their JSON
//	    grant          16 bytes, if flagGrant: not_before, expires_at
//	    input          32 bytes, if flagInput: SHA-256 of the input of a user's own bundle
//	    texts          code, release, practice, subject type, subject id, action,
//	                   resource type, resource id, purpose, portal profile, revision, request id
//	    bases          list
//	    member         if flagMember: id, user, practice, status; a list of roles if flagRoleList
//	    client         if flagClient: id, practice, assigned, status
//	    grant          if flagGrant: scope
//	    portal         if flagPortal: contact, relationship; lists of permissions and features
//	    properties     if flagProperties: a count, then name (1 byte, authz.PropertyNames), kind (1 byte), a text if it is one
//
// A text begins with one byte: 0 empty, 1 the same as the text it usually
// equals (said where it is written), 2–127 one byte more than its length, 128
// a uvarint length follows, 129–255 a word (words.go). A list is a count of one
// byte and its texts. Settings are kept once, under their digest, beside the
// records that name them.
const bodyVersion = 1

const fixedSize = 44

// Flags of a body.
const (
	flagAllow = 1 << iota
	flagNow
	flagLatest
	flagSettings
	flagGrant
	flagInput
	flagMember
	flagRoleList // the roles are not in the order of authz.Roles: their list follows
	flagOwner
	flagFullClinicalAccess
	flagBilling
	flagClient
	flagPortal
	flagPortalEnabled
	flagPortalOwn
	flagProperties
)

// First bytes of a text.
const (
	textSame = 1
	textLong = 128
	textWord = 129
)

// maxText is the longest text that a record takes, in bytes. Ids are shorter;
// it keeps every text within what an index of Postgres can hold.
const maxText = 1024

// Kinds of property values: what authz.KeepProperties leaves.
const (
	valueNull = iota
	valueFalse
	valueTrue
	valueText
	valueZero
	valueList
	valueObject
)

// digestSize is how much of the SHA-256 of settings stands in a body.
const digestSize = 16

// settingsDigest names settings that a record rests on.
type settingsDigest [digestSize]byte

func digestOf(s *authz.Settings) settingsDigest {
	_, sum := s.JSON()
	return settingsDigest(sum[:digestSize])
}

// writer appends a body. The first fault is kept, and spoils the body.
type writer struct {
	b        []byte
	originAt [2]int // from where to where it stands
	policyAt [2]int // the same of the release and the practice
	fault    error
}

// appendBody appends the body of v to b. It refuses what could not be kept
// exactly, or could not be kept by Postgres: the answer must not leave then.
func appendBody(b []byte, v *authz.Verdict) ([]byte, error) {
	b, _, err := appendParts(b, v)
	return b, err
}

// appendParts is appendBody, and says where in the body its parts are.
func appendParts(b []byte, v *authz.Verdict) ([]byte, parts, error) {
	w := writer{b: b}
	entries := entriesLike(v)
	if entries == nil {
		w.verdict(v)
	} else if like := entries.Load(); like != nil {
		w.again(v, like)
	} else if w.verdict(v); w.fault == nil {
		entries.Store(w.common(len(b)))
	}
	if w.fault != nil {
		return b, parts{}, fmt.Errorf("decision %s: %w", v.ID, w.fault)
	}
	return w.b, w.parts(len(b), v), nil
}

// parts are those of the body that was written from start: most of the id, the
// times and the settings, the release and the practice, the origin.
func (w *writer) parts(start int, v *authz.Verdict) parts {
	const idEnd = headSize + 12 // ids of one call differ in what follows
	times := [2]int{headSize + 16, fixedSize}
	if v.Facts.Settings != nil {
		times[1] += digestSize
	}
	return parts{{headSize, idEnd}, times, {w.policyAt[0] - start, w.policyAt[1] - start}, {w.originAt[0] - start, w.originAt[1] - start}}
}

func (w *writer) verdict(v *authz.Verdict) {
	r, f := &v.Request, &v.Facts
	start := len(w.b)
	roles, whole := roleBits(f.Member)
	w.b = append(w.b, bodyVersion, roles, 0, 0)
	w.moment(v)
	if f.Settings != nil {
		digest := digestOf(f.Settings)
		w.b = append(w.b, digest[:]...)
	}
	if f.Grant != nil {
		w.time(f.Grant.NotBefore)
		w.time(f.Grant.ExpiresAt)
	}
	if v.Input != nil {
		sum := sha256.Sum256(v.Input)
		w.b = append(w.b, sum[:]...)
	}
	w.word(v.Exact.Code)
	w.policyAt[0] = len(w.b)
	w.text(v.Release, "")
	w.text(f.Practice, "")
	w.policyAt[1] = len(w.b)
	w.word(r.Subject.Type)
	w.text(r.Subject.ID, "")
	w.word(r.Action)
	w.word(r.Resource.Type)
	w.text(r.Resource.ID, f.Practice)
	w.word(r.Context.Purpose)
	w.text(r.Context.PortalProfile, r.Resource.ID)
	w.origin(v)
	w.list(v.Exact.Bases)
	w.facts(r, f, whole)
	binary.LittleEndian.PutUint16(w.b[start+2:], flagsOf(v, whole))
}

// moment writes which decision it is, and its times.
func (w *writer) moment(v *authz.Verdict) {
	w.b = append(w.b, v.ID[:]...)
	w.time(v.At)
	w.time(v.Facts.Now)
	w.time(v.Facts.Latest)
}

// origin writes how old the facts are, and of which request it is.
func (w *writer) origin(v *authz.Verdict) {
	w.originAt[0] = len(w.b)
	w.text(v.Facts.Revision, "")
	if authz.ValidID(v.RequestID) {
		w.text(v.RequestID, "")
	} else {
		w.b = append(w.b, 0)
	}
	w.originAt[1] = len(w.b)
}

func (w *writer) facts(r *authz.Request, f *authz.Facts, wholeRoles bool) {
	if m := f.Member; m != nil {
		w.text(m.ID, "")
		w.text(m.User, r.Subject.ID)
		w.text(m.Practice, f.Practice)
		w.word(m.Status)
		if !wholeRoles {
			w.list(m.Roles)
		}
	}
	if c := f.Client; c != nil {
		w.text(c.ID, r.Resource.ID)
		w.text(c.Practice, f.Practice)
		w.text(c.Assigned, r.Subject.ID)
		w.word(c.Status)
	}
	if f.Grant != nil {
		w.word(f.Grant.Scope)
	}
	if p := f.Portal; p != nil {
		w.text(p.Contact, "")
		w.word(p.Relationship)
		w.list(p.Permissions)
		w.list(p.Features)
	}
	if r.Resource.Properties != nil {
		w.properties(r.Resource.Properties, f)
	}
}

func flagsOf(v *authz.Verdict, wholeRoles bool) uint16 {
	f := &v.Facts
	var flags uint16
	set := func(flag uint16, on bool) {
		if on {
			flags |= flag
		}
	}
	set(flagAllow, v.Exact.Allow)
	set(flagNow, !f.Now.IsZero())
	set(flagLatest, !f.Latest.IsZero())
	set(flagSettings, f.Settings != nil)
	set(flagGrant, f.Grant != nil)
	set(flagInput, v.Input != nil)
	set(flagClient, f.Client != nil)
	set(flagProperties, v.Request.Resource.Properties != nil)
	if m := f.Member; m != nil {
		set(flagMember, true)
		set(flagRoleList, !wholeRoles)
		set(flagOwner, m.Owner)
		set(flagFullClinicalAccess, m.FullClinicalAccess)
		set(flagBilling, m.BillingEnabled)
	}
	if p := f.Portal; p != nil {
		set(flagPortal, true)
		set(flagPortalEnabled, p.Enabled)
		set(flagPortalOwn, p.Own)
	}
	return flags
}

// roleBits returns the roles of m as bits, and whether those say all of them:
// known ones, once each, in the order of authz.Roles.
func roleBits(m *authz.Member) (bits byte, whole bool) {
	if m == nil {
		return 0, true
	}
	last := -1
	whole = true
	for _, role := range m.Roles {
		i := slices.Index(authz.Roles, role)
		if i >= 0 {
			bits |= 1 << i
		}
		whole = whole && i > last
		last = i
	}
	return bits, whole
}

func (w *writer) time(t time.Time) {
	if y := t.Year(); y < 1 || y > 9999 {
		w.fail("a time of the year %d", y)
	}
	w.b = binary.LittleEndian.AppendUint64(w.b, uint64(t.UnixMicro()))
}

// word writes a text that is usually one of words.
func (w *writer) word(s string) {
	if i, ok := wordIndex[s]; ok {
		w.b = append(w.b, textWord+i)
		return
	}
	w.text(s, "")
}

// text writes a text that usually equals same.
func (w *writer) text(s, same string) {
	switch {
	case s == "":
		w.b = append(w.b, 0)
		return
	case s == same:
		w.b = append(w.b, textSame)
		return
	case len(s) > maxText:
		w.fail("a text of %d bytes, at most %d are taken", len(s), maxText)
		return
	case !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0:
		w.fail("a text that is not UTF-8, or holds NUL")
		return
	case len(s) < textLong-1:
		w.b = append(w.b, byte(len(s)+1))
	default:
		w.b = binary.AppendUvarint(append(w.b, textLong), uint64(len(s)))
	}
	w.b = append(w.b, s...)
}

func (w *writer) list(items []string) {
	if len(items) > 255 {
		w.fail("a list of %d, at most 255 are taken", len(items))
		return
	}
	w.b = append(w.b, byte(len(items)))
	for _, s := range items {
		w.word(s)
	}
}

// properties writes what authz.KeepProperties leaves, and refuses all else:
// it could be free text.
func (w *writer) properties(p authz.Properties, f *authz.Facts) {
	client := ""
	if f.Client != nil {
		client = f.Client.ID
	}
	w.b = append(w.b, byte(len(p)))
	written := 0
	for i, name := range authz.PropertyNames {
		v, ok := p[name]
		if !ok {
			continue
		}
		written++
		w.b = append(w.b, byte(i))
		switch v := v.(type) {
		case nil:
			w.b = append(w.b, valueNull)
		case bool:
			kind := byte(valueFalse)
			if v {
				kind = valueTrue
			}
			w.b = append(w.b, kind)
		case string:
			w.b = append(w.b, valueText)
			if i, ok := wordIndex[v]; ok {
				w.b = append(w.b, textWord+i)
			} else {
				w.text(v, client)
			}
		case int64:
			w.empty(name, valueZero, v == 0)
		case []any:
			w.empty(name, valueList, len(v) == 0)
		case map[string]any:
			w.empty(name, valueObject, len(v) == 0)
		default:
			w.fail("property %s was not cleaned: %T", name, v)
		}
	}
	if written != len(p) {
		w.fail("properties were not cleaned")
	}
}

func (w *writer) empty(name string, kind byte, is bool) {
	if !is {
		w.fail("property %s was not cleaned", name)
	}
	w.b = append(w.b, kind)
}

func (w *writer) fail(format string, arguments ...any) {
	if w.fault == nil {
		w.fault = fmt.Errorf(format, arguments...)
	}
}
