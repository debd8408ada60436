package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"chartgate/internal/authz"

	"github.com/google/uuid"
)

// View is one recorded decision, read where it lies: its texts point into the
// body that it was read from and hold as long as that is not changed. Reading
// into a View again allocates nothing.
type View struct {
	ID          uuid.UUID
	At          int64 // microseconds since 1970
	Now, Latest int64 // of the facts; 0 where HasNow, HasLatest say so
	Allow       bool
	Roles       byte // bit i for authz.Roles[i]: the member's roles

	Code, Release, Practice                                []byte
	SubjectType, SubjectID, Action                         []byte
	ResourceType, ResourceID, Purpose, PortalProfile       []byte
	Revision, RequestID                                    []byte
	MemberID, MemberUser, MemberPractice, MemberStatus     []byte
	ClientID, ClientPractice, ClientAssigned, ClientStatus []byte
	GrantScope, PortalContact, PortalRelationship          []byte
	SettingsDigest, InputDigest                            []byte // nil where there are none
	Bases, RoleList, PortalPermissions, PortalFeatures     Texts
	NotBefore, ExpiresAt                                   int64 // of the grant
	properties                                             cursor
	flags                                                  uint16
	propertyClient                                         []byte // resource.properties.client, if it is a text
}

// Texts is a list of texts inside a body.
type Texts struct {
	count int
	at    cursor
}

// Len is how many texts there are.
func (t Texts) Len() int { return t.count }

// All yields the texts, in order.
func (t Texts) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		at := t.at
		for range t.count {
			if !yield(at.text(nil)) {
				return
			}
		}
	}
}

// strings returns the texts as strings; never nil.
func (t Texts) strings() []string {
	out := make([]string, 0, t.count)
	for s := range t.All() {
		out = append(out, string(s))
	}
	return out
}

// Has reports what is known beside the texts.
func (v *View) has(flag uint16) bool { return v.flags&flag != 0 }

// errBody is a body that cannot be read. It is one value, so that reading
// allocates nothing; who calls says where it was.
var errBody = errors.New("the body of a decision cannot be read")

// Read reads body. What does not come back as it was written is an error.
func (v *View) Read(body []byte) error {
	if len(body) < fixedSize {
		return errBody
	}
	if body[0] != bodyVersion {
		return fmt.Errorf("%w: it is of version %d, this build knows %d", errBody, body[0], bodyVersion)
	}
	*v = View{
		Roles: body[1], flags: binary.LittleEndian.Uint16(body[2:]), ID: uuid.UUID(body[4:20]),
		At:     int64(binary.LittleEndian.Uint64(body[20:])),
		Now:    int64(binary.LittleEndian.Uint64(body[28:])),
		Latest: int64(binary.LittleEndian.Uint64(body[36:])),
	}
	v.Allow = v.has(flagAllow)
	c := cursor{b: body[fixedSize:]}
	if v.has(flagSettings) {
		v.SettingsDigest = c.bytes(digestSize)
	}
	if v.has(flagGrant) {
		v.NotBefore, v.ExpiresAt = c.int64(), c.int64()
	}
	if v.has(flagInput) {
		v.InputDigest = c.bytes(32)
	}
	v.Code = c.text(nil)
	v.Release = c.text(nil)
	v.Practice = c.text(nil)
	v.SubjectType = c.text(nil)
	v.SubjectID = c.text(nil)
	v.Action = c.text(nil)
	v.ResourceType = c.text(nil)
	v.ResourceID = c.text(v.Practice)
	v.Purpose = c.text(nil)
	v.PortalProfile = c.text(v.ResourceID)
	v.Revision = c.text(nil)
	v.RequestID = c.text(nil)
	v.Bases = c.list()
	v.readFacts(&c)
	if c.bad || len(c.b) != 0 {
		return errBody
	}
	return nil
}

func (v *View) readFacts(c *cursor) {
	if v.has(flagMember) {
		v.MemberID = c.text(nil)
		v.MemberUser = c.text(v.SubjectID)
		v.MemberPractice = c.text(v.Practice)
		v.MemberStatus = c.text(nil)
		if v.has(flagRoleList) {
			v.RoleList = c.list()
		}
	}
	if v.has(flagClient) {
		v.ClientID = c.text(v.ResourceID)
		v.ClientPractice = c.text(v.Practice)
		v.ClientAssigned = c.text(v.SubjectID)
		v.ClientStatus = c.text(nil)
	}
	if v.has(flagGrant) {
		v.GrantScope = c.text(nil)
	}
	if v.has(flagPortal) {
		v.PortalContact = c.text(nil)
		v.PortalRelationship = c.text(nil)
		v.PortalPermissions = c.list()
		v.PortalFeatures = c.list()
	}
	if v.has(flagProperties) {
		v.properties = *c
		for p := range v.eachProperty(c) {
			if p.kind == valueText && authz.PropertyNames[p.name] == "client" {
				v.propertyClient = p.text
			}
		}
	}
}

type property struct {
	name, kind byte
	text       []byte
}

// eachProperty reads the properties at c, and leaves c behind them.
func (v *View) eachProperty(c *cursor) iter.Seq[property] {
	return func(yield func(property) bool) {
		for range c.byte() {
			p := property{name: c.byte(), kind: c.byte()}
			if int(p.name) >= len(authz.PropertyNames) || p.kind > valueObject {
				c.bad = true
			}
			if p.kind == valueText {
				p.text = c.text(v.ClientID)
			}
			if c.bad || !yield(p) {
				return
			}
		}
	}
}

// Client is the client that the resource belongs to, empty when there is none:
// authz.Resource.Client of what was asked.
func (v *View) Client() []byte {
	switch string(v.ResourceType) {
	case authz.ResourceClient:
		return v.ResourceID
	case authz.ResourceNote, authz.ResourceDocument:
		return v.propertyClient
	}
	return nil
}

// cursor reads the parts of a body in turn. Past the end it gives nothing and
// remembers that.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	out := c.b[0]
	c.b = c.b[1:]
	return out
}

func (c *cursor) uint32() uint32 {
	b := c.bytes(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

func (c *cursor) int64() int64 {
	b := c.bytes(8)
	if b == nil {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(b))
}

func (c *cursor) text(same []byte) []byte {
	first := c.byte()
	switch {
	case first == 0:
		return nil
	case first == textSame:
		if len(same) == 0 {
			c.bad = true
		}
		return same
	case first < textLong:
		return c.bytes(int(first) - 1)
	case first == textLong:
		n, size := binary.Uvarint(c.b)
		if size <= 0 || n > maxText {
			c.bad = true
			return nil
		}
		c.b = c.b[size:]
		return c.bytes(int(n))
	}
	i := int(first) - textWord
	if i >= len(wordTexts) {
		c.bad = true
		return nil
	}
	return wordTexts[i]
}

func (c *cursor) list() Texts {
	t := Texts{count: int(c.byte()), at: *c}
	for range t.count {
		c.text(nil)
	}
	return t
}
