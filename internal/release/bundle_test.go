package release

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"chartgate/bundles"
	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/rego"
)

func build(t *testing.T) []byte {
	t.Helper()
	raw, err := Build(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestDefaultBundleIsUpToDate(t *testing.T) {
	const hint = "run\n\tgo run ./cmd/chartgate policy build"
	fresh, err := pdp.Unpack(build(t))
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := pdp.Unpack(bundles.Default)
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range []map[string][]byte{fresh, shipped} {
		delete(files, ".signatures.json")
		var manifest map[string]any
		if err := json.Unmarshal(files[".manifest"], &manifest); err != nil {
			t.Fatal(err)
		}
		delete(manifest, "metadata")
		files[".manifest"], _ = json.Marshal(manifest)
	}
	if !maps.EqualFunc(fresh, shipped, bytes.Equal) {
		t.Error("but for its seal, bundles/default.tar.gz is not what policies/ makes; " + hint)
	}
	none, err := pdp.ReadKeys()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := none.WithShipped(bundles.DefaultKey, pdp.Content(fresh))
	if err != nil {
		t.Fatal(err)
	}
	if _, seal, err := pdp.ReadSigned(bundles.Default, keys, "deployment-1"); err != nil || seal.SingleSigner == "" {
		t.Errorf("the signature of the shipped bundle: %v; %+v; %s", err, seal, hint)
	}
}

func TestBundleIsReproducible(t *testing.T) {
	raw := build(t)
	if again := build(t); !bytes.Equal(raw, again) {
		t.Error("built twice, the bundle differs")
	}
	changed, err := Build(edited(t, "tables/roles/data.yaml", "    - chart.open\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	if revisionOf(t, changed) == revisionOf(t, raw) {
		t.Error("another policy has the same revision")
	}
	commented, err := Build(edited(t, "cases/bases.yaml", "title: ", "title: Again "))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(commented, raw) {
		t.Error("an edit of a case changes the bundle")
	}
}

func revisionOf(t *testing.T, raw []byte) string {
	t.Helper()
	b, err := pdp.ReadArchive(raw)
	if err != nil {
		t.Fatal(err)
	}
	return b.Revision
}

// TestBundleDecidesAsItsFolder asks the bundle the cases, with our engine and
// with OPA as it comes, which must agree with the policies it was built from.
func TestBundleDecidesAsItsFolder(t *testing.T) {
	raw := build(t)
	read, err := bundle.NewReader(bytes.NewReader(raw)).Read()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"authz", "checks", "lib", "rules", "schemas", "tables"}; read.Manifest.Roots == nil || !slices.Equal(*read.Manifest.Roots, want) {
		t.Errorf("roots %v, want %v", read.Manifest.Roots, want)
	}
	file := t.TempDir() + "/bundle.tar.gz"
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	stock, err := rego.New(rego.LoadBundle(file), rego.Query(pdp.DecisionPath)).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := pdp.LoadBundle(file)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := pdp.NewEngine(t.Context(), ours, pdp.DecisionPath)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := ReadCases(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if c.File == "cases/matrix.yaml" && i%10 > 0 {
			continue // one cell of ten will do here
		}
		if r := c.run(t.Context(), engine); !r.OK() {
			t.Error(r.Fault())
		}
		results, err := stock.Eval(t.Context(), rego.EvalInput(c.Document))
		if err != nil || len(results) != 1 {
			t.Fatalf("%s:%d: OPA gave %v, %v", c.File, c.Line, results, err)
		}
		var got struct {
			Allow bool
			Code  string
		}
		text, _ := json.Marshal(results[0].Expressions[0].Value)
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if got.Allow != c.Want.Allow || got.Code != c.Want.Code {
			t.Errorf("%s:%d: want %s, OPA gave %s", c.File, c.Line, c.Want, text)
		}
	}
}
