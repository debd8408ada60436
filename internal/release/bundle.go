package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"chartgate/internal/pdp"

	"go.yaml.in/yaml/v3"
)

// Build makes a bundle of a folder of policies, in OPA's format: its *.rego,
// its tables and schemas as data, a few of its cases as checks (see pdp.Check),
// and a manifest. Properties and texts stay behind.
//
// The same policies give the same bytes: names are sorted, times are fixed and
// nothing is compressed, so that no version of a compressor shows. The revision
// is a digest of what is in it.
func Build(policies fs.FS) ([]byte, error) {
	files, err := bundleFiles(policies)
	if err != nil {
		return nil, fmt.Errorf("build bundle: %w", err)
	}
	if err := addChecks(files, policies); err != nil {
		return nil, fmt.Errorf("build bundle: %w", err)
	}
	roots := map[string]bool{}
	for name := range files {
		root, _, _ := strings.Cut(name, "/")
		roots[root] = true
	}
	manifest, err := json.Marshal(struct {
		Revision    string   `json:"revision"`
		Roots       []string `json:"roots"`
		RegoVersion int      `json:"rego_version"`
	}{pdp.Content(files), slices.Sorted(maps.Keys(roots)), 1})
	if err != nil {
		return nil, fmt.Errorf("build bundle: manifest: %w", err)
	}
	files[".manifest"] = manifest
	return pack(files)
}

// bundleFiles returns what goes into a bundle, by path.
func bundleFiles(policies fs.FS) (map[string][]byte, error) {
	files := map[string][]byte{}
	schemas := map[string]json.RawMessage{}
	err := fs.WalkDir(policies, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		isSchema, _ := path.Match("schemas/*.json", name)
		isTable := path.Base(name) == "data.yaml"
		if !isSchema && !isTable && path.Ext(name) != ".rego" || strings.HasSuffix(name, "_test.rego") || strings.HasPrefix(name, pdp.PropertiesFolder) {
			return nil
		}
		raw, err := fs.ReadFile(policies, name)
		if err != nil {
			return err
		}
		switch {
		case isSchema:
			schemas[strings.TrimSuffix(path.Base(name), ".json")] = raw
		case isTable:
			var table map[string]any
			if err := yaml.Unmarshal(raw, &table); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if files[path.Dir(name)+"/data.json"], err = json.MarshalIndent(table, "", "  "); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		default:
			files[name] = raw
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(schemas) > 0 {
		if files["schemas/data.json"], err = json.MarshalIndent(schemas, "", "  "); err != nil {
			return nil, fmt.Errorf("schemas: %w", err)
		}
	}
	return files, nil
}

// addChecks puts the first allowance and the first denial of each action among
// the cases into the bundle. A folder without cases makes a bundle without checks.
func addChecks(files map[string][]byte, policies fs.FS) error {
	if names, err := fs.Glob(policies, "cases/*.yaml"); err != nil || len(names) == 0 {
		return err
	}
	cases, err := ReadCases(policies)
	if err != nil {
		return err
	}
	type kind struct {
		action any
		allow  bool
	}
	seen := map[kind]bool{}
	var checks pdp.Checks
	for _, c := range cases {
		action, _ := c.Document["action"].(map[string]any)
		k := kind{action["name"], c.Want.Allow}
		if c.Odd || seen[k] {
			continue
		}
		seen[k] = true
		checks.Cases = append(checks.Cases, pdp.Check{Input: c.Document, Allow: c.Want.Allow, Code: c.Want.Code})
	}
	files[pdp.ChecksFile], err = json.Marshal(checks)
	return err
}

func pack(files map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.NoCompression)
	if err != nil {
		return nil, fmt.Errorf("pack bundle: %w", err)
	}
	archive := tar.NewWriter(zip)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{Name: "/" + name, Mode: 0o644, Size: int64(len(files[name])), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("pack bundle: %s: %w", name, err)
		}
		if _, err := archive.Write(files[name]); err != nil {
			return nil, fmt.Errorf("pack bundle: %s: %w", name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("pack bundle: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("pack bundle: %w", err)
	}
	return out.Bytes(), nil
}
