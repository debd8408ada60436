package compile

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// code is formulas made ready to run: a flat list of nodes in which equal
// formulas are one. A node that is asked for more than once remembers its
// answer for the time of one decision.
type code struct {
	nodes []node
	atoms []comparison
	kids  []int32          // of all nodes
	index map[string]int32 // by the formula's key
	memos int16
}

// node is small, so that those of an action stand close together in memory:
// what an atom compares is apart.
type node struct {
	kind  Kind
	loop  int8
	memo  int16 // its bit in frame; -1: none
	uses  int16
	count uint16 // of its kids
	first int32  // the first of its kids in code.kids, or its place in code.atoms
}

// comparison is what an atom compares; of a loop, the list that it goes over,
// and what must hold of one of its elements.
type comparison struct {
	fast  fast
	clock bool // one of the operands is
	op    Op
	each  int32
	quick quick // what fast needs of the operands, at the beginning
	a, b  operand
}

// operand is an Operand made ready: a constant, or where to read.
type operand struct {
	place place
	loop  int8
	name  string // the last part of the path, for settings and properties
	path  string // the whole path, to be read in a document
	value value  // of a constant, where there is no path
	micro int64  // of a constant that is a time in the one form
	time  bool
	texts []string // of a constant collection of texts only
}

// maxLoops is how many loops may follow, or stand in, each other in one rule.
const maxLoops = 3

var errWide = fmt.Errorf("one formula has more than %d parts", math.MaxUint16)

var errDeep = fmt.Errorf("it loops over more than %d lists, one after another", maxLoops)

// frame is one evaluation. It lives on the stack.
type frame struct {
	request  *authz.Request
	facts    *authz.Facts
	document any // instead of the two: a facts document of any kind
	known    uint64
	truth    uint64
	elements [maxLoops]value
	span     authz.Span // where the answer stays what it is, as far as it was looked into
}

func newCode() *code { return &code{index: map[string]int32{}} }

// add makes f ready and returns its node.
func (c *code) add(f *Formula) (int32, error) {
	if i, ok := c.index[f.key]; ok {
		n := &c.nodes[i]
		if n.uses++; n.uses == 2 && c.memos < 64 && n.kind != KindTrue && n.kind != KindFalse && closed(f) {
			n.memo = c.memos
			c.memos++
		}
		return i, nil
	}
	n := node{kind: f.Kind, memo: -1, uses: 1}
	kids := make([]int32, len(f.Kids))
	for k, kid := range f.Kids {
		var err error
		if kids[k], err = c.add(kid); err != nil {
			return 0, err
		}
	}
	switch {
	case f.Kind == KindAtom || f.Kind == KindExists:
		if f.Loop > maxLoops {
			return 0, errDeep
		}
		n.loop, n.first = int8(f.Loop-1), int32(len(c.atoms))
		atom := comparison{fast: fastOf(f), op: f.Op, a: prepared(f.A), b: prepared(f.B)}
		atom.quick = quickOf(&atom.a, &atom.b)
		atom.clock = atom.a.clock() || atom.b.clock()
		if f.Kind == KindExists {
			atom.each = kids[0]
		}
		c.atoms = append(c.atoms, atom)
	case len(kids) > math.MaxUint16:
		return 0, errWide
	default:
		n.first, n.count = int32(len(c.kids)), uint16(len(kids))
		c.kids = append(c.kids, kids...)
	}
	c.nodes = append(c.nodes, n)
	c.index[f.key] = int32(len(c.nodes) - 1)
	return int32(len(c.nodes) - 1), nil
}

// closed reports that f speaks of no element of a loop around it, so that its
// answer does not change while a decision is made.
func closed(f *Formula) bool {
	is := true
	f.places(func(o Operand) { is = is && o.Loop == 0 })
	return is
}

func prepared(o Operand) operand {
	if !o.isConst() {
		p := operand{path: o.Path, name: o.Path[strings.LastIndexByte(o.Path, '.')+1:], loop: int8(o.Loop)}
		if o.Loop == 0 {
			p.place = shape[o.Path].place
		}
		return p
	}
	p := operand{value: constantValue(o.Const)}
	if s, ok := o.Const.(ast.String); ok {
		var t time.Time
		if t, p.time = asInstant(string(s)); p.time {
			p.micro = t.UnixMicro()
		}
	}
	if texts, ok := textsOf(o.Const); ok {
		p.texts = texts
	}
	return p
}

// eval answers node i.
func (c *code) eval(fr *frame, i int32) bool {
	n := &c.nodes[i]
	if n.memo < 0 {
		return c.answer(fr, n)
	}
	bit := uint64(1) << n.memo
	if fr.known&bit == 0 {
		fr.known |= bit
		if c.answer(fr, n) {
			fr.truth |= bit
		}
	}
	return fr.truth&bit != 0
}

func (c *code) answer(fr *frame, n *node) bool {
	switch n.kind {
	case KindTrue:
		return true
	case KindAnd:
		for _, k := range c.kidsOf(n) {
			if !c.eval(fr, k) {
				return false
			}
		}
		return true
	case KindOr:
		for _, k := range c.kidsOf(n) {
			if c.eval(fr, k) {
				return true
			}
		}
	case KindNot:
		return !c.eval(fr, c.kids[n.first])
	case KindAtom:
		return c.atoms[n.first].test(fr)
	case KindExists:
		return c.some(fr, n)
	}
	return false
}

func (c *code) kidsOf(n *node) []int32 { return c.kids[n.first : n.first+int32(n.count)] }

func (n *comparison) test(fr *frame) bool {
	if n.fast != fastNone && fr.request != nil {
		return n.quickly(fr)
	}
	a := n.a.read(fr)
	if a.sort == undefined || n.op == OpDefined {
		return a.sort != undefined
	}
	if unary(n.op) {
		return hasType(n.op, a)
	}
	if n.b.texts != nil && n.op == OpIn && a.sort == text {
		return slices.Contains(n.b.texts, a.text)
	}
	b := n.b.read(fr)
	switch { // times are compared as numbers
	case a.sort == instant && n.b.time:
		b = value{sort: instant, num: n.b.micro}
	case b.sort == instant && n.a.time:
		a = value{sort: instant, num: n.a.micro}
	}
	if n.clock {
		fr.span.Meet(n.span(a, b))
	}
	return test(n.op, a, b)
}

// some runs a loop over a list.
func (c *code) some(fr *frame, n *node) bool {
	over := &c.atoms[n.first]
	v := over.a.read(fr)
	before := fr.elements[n.loop]
	found := false
	switch v.sort {
	case list:
		for i := 0; i < len(v.list) && !found; i++ {
			fr.elements[n.loop] = textValue(v.list[i])
			found = c.eval(fr, over.each)
		}
	case other:
		for _, one := range plainElements(v.any) {
			fr.elements[n.loop] = anyValue(one)
			if found = c.eval(fr, over.each); found {
				break
			}
		}
	}
	fr.elements[n.loop] = before
	return found
}

// plainElements returns the elements of a JSON list, or the values of an object.
func plainElements(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case map[string]any:
		out := make([]any, 0, len(v))
		for _, one := range v {
			out = append(out, one)
		}
		return out
	}
	return nil
}

func (o *operand) read(fr *frame) value {
	switch {
	case o.loop > 0 && o.path == "":
		return fr.elements[o.loop-1]
	case o.loop > 0:
		return inDocument(fr.elements[o.loop-1].any, o.path)
	case o.path == "":
		return o.value
	case fr.request != nil:
		return read(fr.request, fr.facts, o.place, o.name)
	}
	return inDocument(fr.document, o.path)
}
