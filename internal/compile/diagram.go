package compile

import (
	"context"
	"fmt"
	"math/big"
)

// diagram holds binary decision diagrams over atoms: formulas in a form in which
// equal ones are one node. Variables are numbered in the order in which they
// are asked. It is for one goroutine.
type diagram struct {
	ctx    context.Context
	vars   []*Formula // the atoms, by number
	number map[string]int32
	nodes  []branch
	unique map[branch]vertex
	known  map[[3]vertex]vertex
	limit  int
}

// vertex is a place in diagram.nodes; the first two are false and true.
type vertex int32

const (
	never  vertex = 0
	always vertex = 1
)

// branch asks one variable.
type branch struct {
	v      int32
	lo, hi vertex // where it is false, where it is true
}

// maxNodes bounds a diagram: some 50 MB. What needs more is undecided.
const maxNodes = 1_000_000

// tooLarge is how a diagram gives up; see within.
type tooLarge struct{ why error }

func newDiagram(ctx context.Context, vars []*Formula) *diagram {
	d := &diagram{ctx: ctx, vars: vars, number: map[string]int32{}, unique: map[branch]vertex{}, known: map[[3]vertex]vertex{}, limit: maxNodes}
	for i, v := range vars {
		d.number[v.key] = int32(i)
	}
	end := int32(len(vars))
	d.nodes = []branch{{v: end}, {v: end}}
	return d
}

// within runs what works on a diagram; the error says that it was given up.
func within(work func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case tooLarge:
			err = p.why
		default:
			panic(p)
		}
	}()
	work()
	return nil
}

func (d *diagram) make(v int32, lo, hi vertex) vertex {
	if lo == hi {
		return lo
	}
	b := branch{v, lo, hi}
	if n, ok := d.unique[b]; ok {
		return n
	}
	if len(d.nodes) >= d.limit {
		panic(tooLarge{fmt.Errorf("its diagram has more than %d nodes: it is too large to be compared", d.limit)})
	}
	if len(d.nodes)%4096 == 0 && d.ctx.Err() != nil {
		panic(tooLarge{d.ctx.Err()})
	}
	n := vertex(len(d.nodes))
	d.nodes = append(d.nodes, b)
	d.unique[b] = n
	return n
}

// ite is "if f then g else h", of which every other operation is made.
func (d *diagram) ite(f, g, h vertex) vertex {
	switch {
	case f == always, g == h:
		return g
	case f == never:
		return h
	case g == always && h == never:
		return f
	}
	key := [3]vertex{f, g, h}
	if n, ok := d.known[key]; ok {
		return n
	}
	v := min(d.nodes[f].v, d.nodes[g].v, d.nodes[h].v)
	f0, f1 := d.split(f, v)
	g0, g1 := d.split(g, v)
	h0, h1 := d.split(h, v)
	n := d.make(v, d.ite(f0, g0, h0), d.ite(f1, g1, h1))
	d.known[key] = n
	return n
}

// split returns n where v is false, and where it is true.
func (d *diagram) split(n vertex, v int32) (lo, hi vertex) {
	if b := d.nodes[n]; b.v == v {
		return b.lo, b.hi
	}
	return n, n
}

func (d *diagram) not(f vertex) vertex        { return d.ite(f, never, always) }
func (d *diagram) and(f, g vertex) vertex     { return d.ite(f, g, never) }
func (d *diagram) or(f, g vertex) vertex      { return d.ite(f, always, g) }
func (d *diagram) without(f, g vertex) vertex { return d.ite(g, never, f) }

// inside reports that f holds only where g does.
func (d *diagram) inside(f, g vertex) bool { return d.without(f, g) == never }

func (d *diagram) all(nodes ...vertex) vertex {
	out := always
	for _, n := range nodes {
		out = d.and(out, n)
	}
	return out
}

// atom is the diagram of one variable, or of its negation.
func (d *diagram) atom(v int32, negated bool) vertex {
	if negated {
		return d.make(v, always, never)
	}
	return d.make(v, never, always)
}

// of makes the diagram of a formula whose atoms are all variables.
func (d *diagram) of(f *Formula) vertex {
	switch f.Kind {
	case KindTrue:
		return always
	case KindFalse:
		return never
	case KindNot:
		return d.not(d.of(f.Kids[0]))
	case KindAnd:
		out := always
		for _, k := range f.Kids {
			out = d.and(out, d.of(k))
		}
		return out
	case KindOr:
		out := never
		for _, k := range f.Kids {
			out = d.or(out, d.of(k))
		}
		return out
	}
	v, ok := d.number[f.key]
	if !ok {
		panic(tooLarge{fmt.Errorf("%s is no variable of the diagram", f)})
	}
	return d.atom(v, false)
}

// some is f with a variable forgotten: whether f holds for either of its values.
func (d *diagram) some(f vertex, forgotten func(v int32) bool) vertex {
	known := map[vertex]vertex{never: never, always: always}
	var walk func(vertex) vertex
	walk = func(n vertex) vertex {
		if out, ok := known[n]; ok {
			return out
		}
		b := d.nodes[n]
		lo, hi := walk(b.lo), walk(b.hi)
		var out vertex
		if forgotten(b.v) {
			out = d.or(lo, hi)
		} else {
			out = d.ite(d.atom(b.v, false), hi, lo)
		}
		known[n] = out
		return out
	}
	return walk(f)
}

// support lists the variables that f depends on, in order.
func (d *diagram) support(f vertex) []int32 {
	seen := map[vertex]bool{}
	asked := make([]bool, len(d.vars))
	var walk func(vertex)
	walk = func(n vertex) {
		if n <= always || seen[n] {
			return
		}
		seen[n] = true
		b := d.nodes[n]
		asked[b.v] = true
		walk(b.lo)
		walk(b.hi)
	}
	walk(f)
	var out []int32
	for v, is := range asked {
		if is {
			out = append(out, int32(v))
		}
	}
	return out
}

// count says for how many of the ways to answer all variables f holds.
func (d *diagram) count(f vertex) *big.Int {
	known := map[vertex]*big.Int{}
	var walk func(vertex) *big.Int // of the variables from the node's own on
	walk = func(n vertex) *big.Int {
		switch n {
		case never:
			return new(big.Int)
		case always:
			return big.NewInt(1)
		}
		if out, ok := known[n]; ok {
			return out
		}
		b := d.nodes[n]
		out := new(big.Int)
		for _, kid := range []vertex{b.lo, b.hi} {
			skipped := uint(d.nodes[kid].v - b.v - 1)
			out.Add(out, new(big.Int).Lsh(walk(kid), skipped))
		}
		known[n] = out
		return out
	}
	return new(big.Int).Lsh(walk(f), uint(d.nodes[f].v))
}

// cube says what some variables must be.
type cube map[int32]bool

// region is where a cube holds.

func (d *diagram) region(c cube) vertex {
	out := always
	for v := int32(len(d.vars)) - 1; v >= 0; v-- {
		if is, ok := c[v]; ok {
			out = d.and(d.atom(v, !is), out)
		}
	}
	return out
}

// pick returns one way to answer the variables so that f holds; where both
// answers lead on, the preferred one. f must not be never.
func (d *diagram) pick(f vertex, preferred func(v int32) bool) cube {
	out := cube{}
	for v := range int32(len(d.vars)) {
		out[v] = preferred(v)
	}
	for f != always {
		b := d.nodes[f]
		is := out[b.v]
		next, other := b.lo, b.hi
		if is {
			next, other = other, next
		}
		if next == never {
			is, next = !is, other
		}
		out[b.v], f = is, next
	}
	return out
}
