package compile

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"chartgate/internal/authz"
)

// words are texts that mean something in the facts document, whatever the
// policy says.
var words = slices.Concat(authz.Roles, ids[:3], []string{"", unknownWord, "progress", "psychotherapy",
	authz.SubjectUser, authz.SubjectPortal, authz.ResourceClient, authz.ResourceNote, authz.ResourceDocument, authz.ResourcePractice,
	authz.ResourceFormTemplate, authz.ResourceMember, authz.MemberActive, authz.MemberInvited, authz.MemberRemoved,
	authz.ClientArchived, authz.ScopeView, authz.ScopeCollaborate})

// fuzzed is how many points are drawn from the shape of the facts document
// alone, knowing no formula and no account of what the policy reads.
const fuzzed = 400

func (c *certifier) fuzz(s *space, rng *rand.Rand) {
	actions := slices.Sorted(maps.Keys(c.program.actions))
	if len(actions) == 0 {
		return
	}
	for range fuzzed {
		p := point{}
		for _, t := range optional {
			p[t] = "present"
			if rng.IntN(6) == 0 {
				p[t] = absent
			}
		}
		for _, path := range slices.Sorted(maps.Keys(shape)) {
			if t := tableOf(path); path == t || path == "action.name" || (t != "" && p[t] == absent) {
				continue
			}
			if v := fuzz(path, rng); v != absent {
				p[path] = v
			}
		}
		c.jobs = append(c.jobs, job{action: actions[rng.IntN(len(actions))], p: p, whole: true})
		c.report.Fuzz++
	}
}

func fuzz(path string, rng *rand.Rand) any {
	if s, ok := settingOf(path); ok {
		d := settingDomain(s, nil)
		return d[rng.IntN(len(d))]
	}
	switch shape[path].form {
	case formBool:
		return rng.IntN(2) == 0
	case formTime:
		return time.Date(2026, 3, 1, 10, 0, rng.IntN(3), 1000*rng.IntN(2), time.UTC)
	case formTexts:
		list := []string{}
		for range rng.IntN(4) {
			list = append(list, words[rng.IntN(len(words))])
		}
		return list
	case formAny:
		if i := rng.IntN(len(oddities) + 4); i < len(oddities) {
			return oddities[i]
		} else if i == len(oddities) {
			return absent
		}
	}
	return words[rng.IntN(len(words))]
}
