package release

import (
	"fmt"
	"slices"
	"strings"
)

// didYouMean is the hint for a word that is not among those that may stand
// there: the nearest one, or else all of them.
func didYouMean(word string, words []string) string {
	words = slices.Clone(words)
	slices.Sort(words)
	words = slices.Compact(words)
	best, distance := "", len(word)/3+2
	for _, w := range words {
		if d := edits(strings.ToLower(word), strings.ToLower(w)); d < distance {
			best, distance = w, d
		}
	}
	const most = 12
	switch {
	case best != "":
		return fmt.Sprintf("did you mean `%s`?", best)
	case len(words) == 0:
		return ""
	case len(words) > most:
		return fmt.Sprintf("there are `%s` and %d more", strings.Join(words[:most], "`, `"), len(words)-most)
	}
	return fmt.Sprintf("there are `%s`", strings.Join(words, "`, `"))
}

// edits counts the letters to add, take out, replace or swap to get from a to b.
func edits(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for k := range rows[0] {
		rows[0][k] = k
	}
	for i := 1; i <= len(x); i++ {
		for k := 1; k <= len(y); k++ {
			cost := 1
			if x[i-1] == y[k-1] {
				cost = 0
			}
			rows[i][k] = min(rows[i-1][k]+1, rows[i][k-1]+1, rows[i-1][k-1]+cost)
			if i > 1 && k > 1 && x[i-1] == y[k-2] && x[i-2] == y[k-1] {
				rows[i][k] = min(rows[i][k], rows[i-2][k-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
