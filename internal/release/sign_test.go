package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/bundle"
)

func signer(t *testing.T) *Signer {
	t.Helper()
	s, err := NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sealed(t *testing.T, raw []byte) pdp.Seal {
	t.Helper()
	content, err := contentOf(raw)
	if err != nil {
		t.Fatal(err)
	}
	return pdp.Seal{Release: "r-1", Revision: 7, Content: content, Author: "author-1", Approver: "approver-1", Evidence: "sha256:00", Deployment: "deployment-1"}
}

// A bundle that we sign is taken by our own reader and by a stock OPA, each
// with the public key; whatever is altered afterwards is refused by both.
func TestSignedBundleIsTakenByOPA(t *testing.T) {
	s := signer(t)
	raw := build(t)
	signed, err := s.Sign(raw, sealed(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	public, err := s.Public()
	if err != nil {
		t.Fatal(err)
	}
	stock := func(raw []byte, scope string) error {
		config := bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{s.ID(): {Key: string(public), Algorithm: "EdDSA"}}, "", scope, nil)
		_, err := bundle.NewReader(bytes.NewReader(raw)).WithBundleVerificationConfig(config).Read()
		return err
	}
	keys, err := pdp.ReadKeys(public)
	if err != nil {
		t.Fatal(err)
	}
	if err := stock(signed, "chartgate"); err != nil {
		t.Errorf("a stock OPA: %v", err)
	}
	if stock(signed, "another") == nil {
		t.Error("a stock OPA takes it for another scope")
	}
	_, seal, err := pdp.ReadSigned(signed, keys, "deployment-1")
	if want := sealed(t, raw); err != nil || seal.Scope != pdp.SignatureScope || seal.Revision != want.Revision || seal.Evidence != want.Evidence || seal.Content != want.Content {
		t.Errorf("%+v, %v", seal, err)
	}

	for name, edit := range map[string]func(files map[string][]byte){
		"a rule":  func(f map[string][]byte) { f["authz/authz.rego"] = append(f["authz/authz.rego"], "\n# more\n"...) },
		"a table": func(f map[string][]byte) { f["tables/order/data.json"] = []byte(`{}`) },
		"a file":  func(f map[string][]byte) { f["rules/more.rego"] = []byte("package rules.more\n") },
		"no file": func(f map[string][]byte) { delete(f, "lib/member.rego") },
		"the seal": func(f map[string][]byte) {
			f[".manifest"] = bytes.Replace(f[".manifest"], []byte("approver-1"), []byte("approver-2"), 1)
		},
		"revision": func(f map[string][]byte) {
			f[".manifest"] = bytes.Replace(f[".manifest"], []byte(`"revision":7`), []byte(`"revision":8`), 1)
		},
		"signature": func(f map[string][]byte) { delete(f, ".signatures.json") },
	} {
		files, err := pdp.Unpack(signed)
		if err != nil {
			t.Fatal(err)
		}
		edit(files)
		altered, err := pack(files)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(altered, signed) {
			t.Fatalf("%s: nothing was altered", name)
		}
		if _, _, err := pdp.ReadSigned(altered, keys, "deployment-1"); !errors.Is(err, pdp.ErrRefused) {
			t.Errorf("%s altered: ours says %v", name, err)
		}
		if stock(altered, "chartgate") == nil {
			t.Errorf("%s altered: a stock OPA takes it", name)
		}
	}
	other, err := signer(t).Sign(raw, sealed(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pdp.ReadSigned(other, keys, "deployment-1"); !errors.Is(err, pdp.ErrRefused) {
		t.Errorf("another key: %v", err)
	}
	wrong := sealed(t, raw)
	wrong.Content = "sha256:00"
	if _, err := s.Sign(raw, wrong); err == nil {
		t.Error("what the seal says is not what is signed")
	}
}

func TestKeysAreReadAsTheyWereWritten(t *testing.T) {
	s := signer(t)
	private, err := s.Private()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ReadSigner(private)
	if err != nil || again.ID() != s.ID() || !again.key.Equal(s.key) {
		t.Errorf("%v", err)
	}
	public, err := s.Public()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"nothing": "", "a public key": string(public), "two keys": string(private) + string(private),
		"a half": string(private[:len(private)/2]), "not a key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := ReadSigner([]byte(text)); err == nil {
			t.Errorf("%s is taken", name)
		} else if strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

// The digest of evidence is the same however Postgres, or anybody else, writes
// the same JSON.
func TestEvidenceDigestIsOfWhatItSays(t *testing.T) {
	one, err := Digest([]byte(`{"b": {"x": 1.50, "a": "<é>"}, "a": [true, null]}`))
	if err != nil {
		t.Fatal(err)
	}
	same, err := Digest([]byte("{\"a\":[true,null],\n\"b\":{\"a\":\"\\u003c\\u00e9\\u003e\",\"x\":1.50}}"))
	if err != nil || same != one {
		t.Errorf("%s and %s, %v", one, same, err)
	}
	if other, err := Digest([]byte(`{"a": [true, null], "b": {"x": 1.5, "a": "<e>"}}`)); err != nil || other == one {
		t.Errorf("another text, the same digest: %v", err)
	}
	e := Evidence{Steps: map[string]Finished{"check": {Outcome: Passed, Content: "sha256:00", By: "author-1"}}, SingleSigner: "because"}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var read Evidence
	if err := json.Unmarshal(text, &read); err != nil || read.SingleSigner != "because" || read.Steps["check"].Outcome != Passed || len(read.Steps) != 1 {
		t.Errorf("%+v, %v", read, err)
	}
}
