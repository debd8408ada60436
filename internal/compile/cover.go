package compile

import (
	"cmp"
	"errors"
	"slices"
)

// maxCubes bounds a cover: a text of so many cases is read by nobody.
const maxCubes = 400

// cover lists cubes that hold, together, wherever must does, and only where may
// does: first an irredundant sum of products (Minato and Morreale), then each
// cube as short as it can be. dull says which variables to leave out first.
func (d *diagram) cover(must, may vertex, dull func(v int32) int) []cube {
	cubes, _ := d.products(must, may, map[[2]vertex]sum{})
	for _, c := range cubes {
		d.shorten(c, may, dull)
	}
	slices.SortStableFunc(cubes, func(a, b cube) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(nameOf(a), nameOf(b))) })
	return d.needed(cubes, must)
}

// text_ writes a cube so that equal ones look the same.
func nameOf(c cube) string {
	out := []byte{}
	for _, v := range sorted(c) {
		out = append(out, byte(v>>8), byte(v), 0)
		if c[v] {
			out[len(out)-1] = 1
		}
	}
	return string(out)
}

func sorted(c cube) []int32 {
	out := make([]int32, 0, len(c))
	for v := range c {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

// sum is a sum of products and where it holds.
type sum struct {
	cubes []cube
	holds vertex
}

func (d *diagram) products(must, may vertex, known map[[2]vertex]sum) ([]cube, vertex) {
	if must == never {
		return nil, never
	}
	if may == always {
		return []cube{{}}, always
	}
	key := [2]vertex{must, may}
	if p, ok := known[key]; ok {
		return p.cubes, p.holds
	}
	v := min(d.nodes[must].v, d.nodes[may].v)
	must0, must1 := d.split(must, v)
	may0, may1 := d.split(may, v)
	cubes0, holds0 := d.products(d.without(must0, may1), may0, known)
	cubes1, holds1 := d.products(d.without(must1, may0), may1, known)
	rest, holds := d.products(d.or(d.without(must0, holds0), d.without(must1, holds1)), d.and(may0, may1), known)
	var out []cube
	add := func(c cube, answer ...bool) {
		with := cube{}
		for u, is := range c {
			with[u] = is
		}
		for _, is := range answer {
			with[v] = is
		}
		out = append(out, with)
	}
	for _, c := range rest {
		add(c)
	}
	for _, c := range cubes0 {
		add(c, false)
	}
	for _, c := range cubes1 {
		add(c, true)
	}
	if len(out) > maxCubes {
		panic(tooLarge{errors.New("what differs falls into too many cases to be told")})
	}
	p := sum{out, d.or(holds, d.ite(d.atom(v, false), holds1, holds0))}
	known[key] = p
	return p.cubes, p.holds
}

// shorten leaves out of a cube what it need not say.
func (d *diagram) shorten(c cube, may vertex, dull func(v int32) int) {
	order := sorted(c)
	negated := func(v int32) int {
		if c[v] {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(dull(b), dull(a)), cmp.Compare(negated(b), negated(a)))
	})
	for _, v := range order {
		is := c[v]
		delete(c, v)
		if !d.inside(d.region(c), may) {
			c[v] = is
		}
	}
}

// needed leaves out the cubes that the others make needless, long ones first.
func (d *diagram) needed(cubes []cube, must vertex) []cube {
	regions := make([]vertex, len(cubes))
	for i, c := range cubes {
		regions[i] = d.region(c)
	}
	for i := len(cubes) - 1; i >= 0; i-- {
		rest := never
		for k, r := range regions {
			if k != i {
				rest = d.or(rest, r)
			}
		}
		if d.inside(must, rest) {
			cubes, regions = slices.Delete(cubes, i, i+1), slices.Delete(regions, i, i+1)
		}
	}
	return cubes
}
