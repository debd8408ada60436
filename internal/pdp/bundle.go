package pdp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// maxBundle is the size of the largest bundle that is read, in bytes, both
// packed and for each file in it.
const maxBundle = 16 << 20

// Bundle is a policy as it was read: modules, data and schemas, not compiled.
type Bundle struct {
	Revision string
	Modules  map[string]*ast.Module // by path; tests are left out
	// Properties are the modules under properties/: what is to hold of the
	// policy. They decide nothing and are no part of what an Engine compiles.
	Properties map[string]*ast.Module
	Data       map[string]any
	Schemas    map[string]any // by name; "input" describes the facts document
}

// PropertiesFolder is where the properties of a policy stand beside it.
const PropertiesFolder = "properties/"

// LoadBundle reads a bundle from a folder of policies or from a .tar.gz. It is
// not verified: signatures are for releases.
func LoadBundle(name string) (*Bundle, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if info.IsDir() {
		return ReadFolder(os.DirFS(name))
	}
	if !strings.HasSuffix(name, ".tar.gz") && !strings.HasSuffix(name, ".tgz") {
		return nil, fmt.Errorf("bundle %s: want a folder or a .tar.gz", filepath.Base(name))
	}
	if info.Size() > maxBundle {
		return nil, fmt.Errorf("bundle %s: %d bytes, at most %d are read", filepath.Base(name), info.Size(), maxBundle)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return ReadArchive(raw)
}

// ReadArchive reads a bundle from the bytes of a .tar.gz.
func ReadArchive(raw []byte) (*Bundle, error) {
	b, err := bundle.NewReader(bytes.NewReader(raw)).WithSizeLimitBytes(maxBundle).
		WithProcessAnnotations(true).WithRegoVersion(ast.RegoV1).WithSkipBundleVerification(true).Read()
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return fromOPA(&b, raw)
}

// ReadFolder reads a bundle from a folder: *.rego, data.yaml or data.json at
// the place where they stand, and schemas/<name>.json.
func ReadFolder(folder fs.FS) (*Bundle, error) {
	loader, err := bundle.NewFSLoader(folder)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	b, err := bundle.NewCustomReader(loader).WithSizeLimitBytes(maxBundle).
		WithProcessAnnotations(true).WithRegoVersion(ast.RegoV1).WithSkipBundleVerification(true).Read()
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	schemas, err := readSchemas(folder)
	if err != nil {
		return nil, err
	}
	content, err := contentOf(folder)
	if err != nil {
		return nil, err
	}
	out, err := fromOPA(&b, content)
	if err != nil {
		return nil, err
	}
	for name, schema := range schemas {
		out.Schemas[name] = schema
	}
	return out, nil
}

func fromOPA(b *bundle.Bundle, content []byte) (*Bundle, error) {
	out := &Bundle{Revision: b.Manifest.Revision, Modules: map[string]*ast.Module{}, Properties: map[string]*ast.Module{}, Data: b.Data, Schemas: map[string]any{}}
	for _, m := range b.Modules {
		name := strings.TrimPrefix(m.Path, "/")
		switch {
		case strings.HasSuffix(name, "_test.rego"):
		case strings.HasPrefix(name, PropertiesFolder):
			out.Properties[name] = m.Parsed
		default:
			out.Modules[name] = m.Parsed
		}
	}
	if len(out.Modules) == 0 {
		return nil, fmt.Errorf("bundle: there is no *.rego file in it")
	}
	if schemas, ok := b.Data["schemas"].(map[string]any); ok {
		for name, schema := range schemas {
			out.Schemas[name] = schema
		}
	}
	if out.Revision == "" {
		sum := sha256.Sum256(content)
		out.Revision = "sha256:" + hex.EncodeToString(sum[:6])
	}
	return out, nil
}

func readSchemas(folder fs.FS) (map[string]any, error) {
	names, err := fs.Glob(folder, "schemas/*.json")
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	schemas := map[string]any{}
	for _, name := range names {
		raw, err := fs.ReadFile(folder, name)
		if err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
		var schema any
		if err := json.Unmarshal(raw, &schema); err != nil {
			return nil, fmt.Errorf("bundle: %s: %w", name, err)
		}
		schemas[strings.TrimSuffix(path.Base(name), ".json")] = schema
	}
	return schemas, nil
}

// contentOf returns the policy's own files, names and bytes, in a fixed order:
// what a revision without a manifest stands for.
func contentOf(folder fs.FS) ([]byte, error) {
	var names []string
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		switch path.Ext(name) {
		case ".rego", ".json", ".yaml":
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	sort.Strings(names)
	var all bytes.Buffer
	for _, name := range names {
		f, err := folder.Open(name)
		if err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
		fmt.Fprintf(&all, "%s\n", name)
		_, err = io.Copy(&all, f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("bundle: %s: %w", name, err)
		}
	}
	return all.Bytes(), nil
}
