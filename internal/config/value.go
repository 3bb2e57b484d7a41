// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	// none is what a value that stands for nothing is written as; nothing at
	// all is fine too.
	none = "none"

	// auto is what a value that is found out at start is written as.
	auto = "auto"

	// maxUDSPath is the longest name of a Unix socket: sun_path has 108 bytes
	// with the final zero (unix(7)).
	maxUDSPath = 107

	// maxAccount is the longest name of a user or group: LOGIN_NAME_MAX of
	// Linux is 256 with the final zero.
	maxAccount = 255

	// maxDevice is the longest name of a network device: IFNAMSIZ is 16 with
	// the final zero.
	maxDevice = 15
)

// fields splits a list at blanks and commas.
func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool {
		return r == ' ' || r == '\t' || r == ','
	})
}

func isNone(s string) bool { return s == "" || strings.EqualFold(s, none) }

var boolean = kind[bool]{
	parse: func(s string) (bool, error) {
		switch strings.ToLower(s) {
		case "1", "yes", "true", "on":
			return true, nil
		case "0", "no", "false", "off":
			return false, nil
		}
		return false, fmt.Errorf("%q is none of yes, no, true, false, on, off, 1, 0", s)
	},
	format: strconv.FormatBool,
}

// number is the kind of a decimal whole number from low to high.
func number[T ~int | ~int64 | ~uint16 | ~uint32](low, high int64) kind[T] {
	return kind[T]{
		parse: func(s string) (T, error) {
			n, err := parseNumber(s, low, high)
			return T(n), err
		},
		format: func(v T) string { return strconv.FormatInt(int64(v), 10) },
	}
}

func parseNumber(s string, low, high int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && (n < low || n > high):
		return 0, fmt.Errorf("%s is out of range %d..%d", s, low, high)
	case err != nil:
		return 0, fmt.Errorf("%q is not a whole number (%d..%d)", s, low, high)
	}
	return n, nil
}

// orAuto is a number for which 0, also written auto, means: find it out.
func orAuto(k kind[int]) kind[int] {
	return kind[int]{
		parse: func(s string) (int, error) {
			if strings.EqualFold(s, auto) {
				return 0, nil
			}
			return k.parse(s)
		},
		format: func(v int) string {
			if v == 0 {
				return auto
			}
			return k.format(v)
		},
	}
}

// nodeID is the kind of an identifier: decimal or, with 0x, hexadecimal.
var nodeID = kind[uint64]{
	parse: func(s string) (uint64, error) {
		if strings.EqualFold(s, auto) {
			return 0, nil
		}
		digits, base := s, 10
		if strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X") {
			digits, base = s[2:], 16
		}
		n, err := strconv.ParseUint(digits, base, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not an identifier (a number of up to 64 bits, decimal or 0x…, or %s)", s, auto)
		}
		return n, nil
	},
	format: func(v uint64) string {
		if v == 0 {
			return auto
		}
		return strconv.FormatUint(v, 10)
	},
}

// seconds is the kind of a time in whole seconds, from low to high of them. A
// unit may follow: 90, 90s and 1m30s are the same.
func seconds(low, high int64) kind[time.Duration] {
	return kind[time.Duration]{
		parse: func(s string) (time.Duration, error) {
			if n, err := strconv.ParseInt(s, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
				if err != nil || n < low || n > high {
					return 0, fmt.Errorf("%s is out of range %d..%d", s, low, high)
				}
				return time.Duration(n) * time.Second, nil
			}
			d, err := time.ParseDuration(s)
			switch {
			case err != nil || d%time.Second != 0:
				return 0, fmt.Errorf("%q is not a number of whole seconds (%d..%d)", s, low, high)
			case d < time.Duration(low)*time.Second || d > time.Duration(high)*time.Second:
				return 0, fmt.Errorf("%s is out of range %d..%d", s, low, high)
			}
			return d, nil
		},
		format: func(d time.Duration) string {
			return strconv.FormatInt(int64(d/time.Second), 10)
		},
	}
}

// list writes values as fields reads them.
func list[T any](vs []T, format func(T) string) string {
	if len(vs) == 0 {
		return none
	}
	ss := make([]string, len(vs))
	for i, v := range vs {
		ss[i] = format(v)
	}
	return strings.Join(ss, " ")
}

// checksum takes the booleans of its older name besides its own words.
var checksum = kind[Checksum]{
	parse: func(s string) (Checksum, error) {
		if b, err := boolean.parse(s); err == nil {
			if b {
				return ChecksumCompute, nil
			}
			return ChecksumZero, nil
		}
		return enum[Checksum](checksumNames).parse(s)
	},
	format: Checksum.String,
}

// logDest takes a keyword in any case or the name of a file. A bare word that
// is nearly a keyword is a slip, and not a file to be made.
var logDest = kind[LogDest]{
	parse: func(s string) (LogDest, error) {
		switch word := strings.ToLower(s); {
		case s == "":
			return LogDest{}, errors.New("a value is missing (stdout, syslog or a file name)")
		case word == "syslog":
			return LogDest{Kind: DestSyslog}, nil
		case word == "stdout":
			return LogDest{Kind: DestStdout}, nil
		case !strings.ContainsAny(s, "./") && (distance(word, "syslog") <= 2 || distance(word, "stdout") <= 2 || word == "stderr"):
			return LogDest{}, fmt.Errorf("%q is none of stdout, syslog or a file name (a file of that name is ./%s)", s, s)
		}
		name, err := path(maxPath).parse(s)
		return LogDest{Kind: DestFile, Path: name}, err
	},
	format: LogDest.String,
}

// path is the kind of a file name of at most limit bytes.
func path(limit int) kind[string] {
	return kind[string]{
		parse: func(s string) (string, error) {
			switch bad := unprintable(s); {
			case s == "":
				return "", errors.New("a file name is missing")
			case bad != "":
				return "", fmt.Errorf("%q has %s in it", s, bad)
			case strings.ContainsAny(s, quotes):
				return "", fmt.Errorf("%q has a quote in it", s)
			case len(s) > limit:
				return "", fmt.Errorf("%q is longer than %d bytes", s, limit)
			}
			return s, nil
		},
		format: func(s string) string { return s },
	}
}

// device is the kind of a network device's name, or none.
var device = kind[string]{
	parse: func(s string) (string, error) {
		switch {
		case isNone(s):
			return "", nil
		case len(s) > maxDevice || s == "." || s == ".." || strings.ContainsAny(s, "/: \t,"+quotes) || unprintable(s) != "":
			return "", fmt.Errorf("%q is not the name of a network device (up to %d bytes, no blank, slash, colon, comma or quote)", s, maxDevice)
		}
		return s, nil
	},
	format: func(s string) string {
		if s == "" {
			return none
		}
		return s
	},
}

// account is the kind of the name or number of a user or group, or auto. Whether
// there is one of that name is for the start to find out.
var account = kind[string]{
	parse: func(s string) (string, error) {
		switch {
		case strings.EqualFold(s, auto):
			return "", nil
		case s == "":
			return "", errors.New("a name or number is missing")
		case len(s) > maxAccount || s[0] == '-' || strings.ContainsAny(s, ":/, \t"+quotes) || unprintable(s) != "":
			return "", fmt.Errorf("%q is not a name or number (up to %d bytes, no blank, slash, colon, comma or quote, no hyphen in front)", s, maxAccount)
		}
		if strings.Trim(s, "0123456789") == "" {
			// The highest number stands for 'no change' in setuid(2).
			_, err := parseNumber(s, 0, math.MaxUint32-1)
			return s, err
		}
		return s, nil
	},
	format: func(s string) string {
		if s == "" {
			return auto
		}
		return s
	},
}
