package release

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// promised are the numbers of all rules that are in force.
var promised = slices.Concat(span(1, 17), span(21, 38), span(40, 67), []int{96, 97}, span(100, 109), span(111, 121), span(131, 155))

// beyondCases are the rules about data, callers and answers over HTTP. A case
// asks the policy alone and cannot show them: they need a named test.
var beyondCases = []int{7, 27, 32, 33, 34, 35, 36, 37, 47, 48, 52, 53, 54, 56, 58, 60, 61, 66, 105, 106, 107, 108, 109, 112, 113, 114, 115, 116, 117, 119, 120, 121,
	132, 133, 134, 137, 147, 149, 150, 153, 155}

func span(from, to int) []int {
	var all []int
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

// TestEveryRuleIsShown asks for a case, or a test that is named for the rule
// such as TestRule33, for every rule that is in force.
func TestEveryRuleIsShown(t *testing.T) {
	cases, err := ReadCases(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	byCase := map[int]bool{}
	for _, c := range cases {
		for _, n := range c.Rules {
			byCase[n] = true
			if !slices.Contains(promised, n) {
				t.Errorf("%s:%d: there is no rule %d", c.File, c.Line, n)
			}
		}
	}
	byTest := rulesInTests(t, "../..")
	for _, n := range promised {
		switch {
		case slices.Contains(beyondCases, n) && !byTest[n]:
			t.Errorf("rule %d: no test is named for it, such as TestRule%d", n, n)
		case !byTest[n] && !byCase[n]:
			t.Errorf("rule %d: no case and no test shows it", n)
		}
	}
}

// TestRulesAreWrittenDown holds RULES.md to the rules that are in force, and
// every mention of a rule in the policies to RULES.md.
func TestRulesAreWrittenDown(t *testing.T) {
	text, err := os.ReadFile(policies + "/RULES.md")
	if err != nil {
		t.Fatal(err)
	}
	var written []int
	for _, line := range regexp.MustCompile(`(?m)^(\d+)\. \S`).FindAllSubmatch(text, -1) {
		n, _ := strconv.Atoi(string(line[1]))
		written = append(written, n)
	}
	if !slices.Equal(written, promised) {
		t.Errorf("RULES.md has the rules %v, want %v", written, promised)
	}
	err = fs.WalkDir(os.DirFS(policies), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".rego" {
			return err
		}
		source, err := os.ReadFile(policies + "/" + name)
		for _, mention := range regexp.MustCompile(`rules? (\d+)(?:[\s#]+(?:to|and)[\s#]+(\d+))?`).FindAllStringSubmatch(string(source), -1) {
			for _, number := range mention[1:] {
				if n, _ := strconv.Atoi(number); number != "" && !slices.Contains(promised, n) {
					t.Errorf("%s speaks of rule %d, which is not in RULES.md", name, n)
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var (
	ruleName   = regexp.MustCompile(`Rule(\d+(?:to\d+)?(?:_\d+(?:to\d+)?)*)`)
	ruleNumber = regexp.MustCompile(`^(\d+)(?:to(\d+))?$`)
)

// rulesInTests reads the numbers out of the names of all tests under root, such
// as TestRule32_33_WhoCannotBeGranted and TestRule28to31_WhoMayNotGiveAccess.
// It parses the files, so that it sees them as they are now.
func rulesInTests(t *testing.T, root string) map[int]bool {
	t.Helper()
	shown := map[int]bool{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && name != root:
			return fs.SkipDir
		case !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				for _, n := range numbersIn(f.Name.Name) {
					shown[n] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return shown
}

func numbersIn(test string) []int {
	var all []int
	for _, match := range ruleName.FindAllStringSubmatch(test, -1) {
		for _, part := range strings.Split(match[1], "_") {
			bounds := ruleNumber.FindStringSubmatch(part)
			from, _ := strconv.Atoi(bounds[1])
			to, err := strconv.Atoi(bounds[2])
			if err != nil {
				to = from
			}
			all = append(all, span(from, to)...)
		}
	}
	return all
}

func TestNumbersAreReadOutOfNames(t *testing.T) {
	for name, want := range map[string][]int{
		"TestRule33":                     {33},
		"TestRule32_33_WhoCannotBe":      {32, 33},
		"TestRule28to31_WhoMayNot":       {28, 29, 30, 31},
		"TestRule58RemovedMember":        {58},
		"TestRule108_111_SettingsOfTwo":  {108, 111},
		"TestEveryRuleIsMissed":          nil,
		"TestRule3_8Minutes_Rule20to21x": {3, 8, 20, 21},
	} {
		if got := numbersIn(name); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}
