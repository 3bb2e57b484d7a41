// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// An AnswerFrom says whose answers a registration daemon believes. The zero
// value believes nobody and never comes from Load.
type AnswerFrom struct {
	Any      bool           // everybody's; the rest does not matter then
	Service  bool           // those of svcnode_ip and svcnode_peers
	Prefixes []netip.Prefix // and of these; masked, unmapped
}

// The words of answer_from.
const (
	answerAny     = "any"
	answerService = "service"
)

// String returns a in the syntax of the configuration file.
func (a AnswerFrom) String() string {
	if a.Any {
		return answerAny
	}
	var ss []string
	if a.Service {
		ss = append(ss, answerService)
	}
	for _, p := range a.Prefixes {
		ss = append(ss, p.String())
	}
	return strings.Join(ss, " ")
}

// answerFrom is the kind of answer_from: any alone, or service and prefixes.
var answerFrom = kind[AnswerFrom]{
	parse: func(s string) (AnswerFrom, error) {
		var a AnswerFrom
		fs := fields(s)
		for _, f := range fs {
			switch strings.ToLower(f) {
			case answerAny:
				a.Any = true
				continue
			case answerService:
				a.Service = true
				continue
			}
			if !strings.ContainsAny(f, ".:/") {
				return AnswerFrom{}, fmt.Errorf("%q is none of any, service, or a prefix (ADDRESS/LENGTH) or an address", f)
			}
			p, err := parsePrefix(f)
			if err != nil {
				return AnswerFrom{}, err
			}
			if !slices.Contains(a.Prefixes, p) {
				a.Prefixes = append(a.Prefixes, p)
			}
		}
		switch {
		case len(fs) == 0:
			return AnswerFrom{}, errors.New("a value is missing (any, service, or prefixes)")
		case a.Any && (a.Service || len(a.Prefixes) > 0):
			return AnswerFrom{}, errors.New("any believes everybody, so that nothing can stand beside it")
		}
		return a, nil
	},
	format: AnswerFrom.String,
}

// devices is the kind of a list of network devices. Each is kept once.
var devices = kind[[]string]{
	parse: func(s string) ([]string, error) {
		if isNone(s) {
			return nil, nil
		}
		var ds []string
		for _, f := range fields(s) {
			d, err := device.parse(f)
			if err != nil {
				return nil, err
			}
			if d != "" && !slices.Contains(ds, d) {
				ds = append(ds, d)
			}
		}
		return ds, nil
	},
	format: func(ds []string) string { return list(ds, func(d string) string { return d }) },
}
