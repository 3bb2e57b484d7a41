// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// A ctlValue is a flag with a value that is checked as it is read.
type ctlValue[T any] struct {
	value T
	given bool
	words []string // what it can be, for completion; nil for anything
	read  func(string) (T, error)
	show  func(T) string
}

// Set, String and Type are what pflag asks for.
func (v *ctlValue[T]) Set(text string) error {
	value, err := v.read(text)
	if err == nil {
		v.value, v.given = value, true
	}
	return err
}

func (v *ctlValue[T]) String() string {
	if v.show == nil {
		return ""
	}
	return v.show(v.value)
}

func (v *ctlValue[T]) Type() string { return "value" }

func (v *ctlValue[T]) completions() []string { return v.words }

// flagValueOf returns the value of a flag of the command, and whether it was
// given.
func flagValueOf[T any](c *ctlCall, name string) (T, bool) {
	v := c.flags.Lookup(name).Value.(*ctlValue[T])
	return v.value, v.given
}

// numberFlag adds a flag for a number from low to high. 0 as a default is not
// shown: it stands for none.
func numberFlag(fs *pflag.FlagSet, name, short string, def, low, high int, usage string) {
	fs.VarP(&ctlValue[int]{value: def,
		read: func(text string) (int, error) {
			n, err := strconv.Atoi(text)
			if err != nil || n < low || n > high {
				return 0, fmt.Errorf("%q is not a number from %d to %d", text, low, high)
			}
			return n, nil
		},
		show: func(n int) string {
			if n == 0 {
				return ""
			}
			return strconv.Itoa(n)
		},
	}, name, short, usage)
}

// maxInterval bounds an interval: whoever wants to wait longer does not want to
// wait.
const maxInterval = time.Hour

// intervalFlag adds a flag for a number of seconds, 0.1 to 3600.
func intervalFlag(fs *pflag.FlagSet, name, short string, def time.Duration, usage string) {
	fs.VarP(&ctlValue[time.Duration]{value: def,
		read: func(text string) (time.Duration, error) {
			s, err := strconv.ParseFloat(strings.TrimSuffix(text, "s"), 64)
			// The comparison is false for what is not a number.
			if err != nil || !(s >= 0.1 && s <= maxInterval.Seconds()) {
				return 0, fmt.Errorf("%q is not a number of seconds from 0.1 to %.0f", text, maxInterval.Seconds())
			}
			return time.Duration(s * float64(time.Second)), nil
		},
		show: func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'g', -1, 64) },
	}, name, short, usage)
}

// wordFlag adds a flag for one of some words, "" where it is not given.
func wordFlag(fs *pflag.FlagSet, name, short string, words []string, usage string) {
	fs.VarP(&ctlValue[string]{words: words, read: func(text string) (string, error) {
		if !slices.Contains(words, text) {
			return "", fmt.Errorf("%q is not one of %s", text, strings.Join(words, ", "))
		}
		return text, nil
	}}, name, short, usage)
}

// prefixFlag adds a flag for an address, or an address with the length of a
// prefix. It is not valid where it is not given.
func prefixFlag(fs *pflag.FlagSet, name, short, usage string) {
	fs.VarP(&ctlValue[netip.Prefix]{read: func(text string) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(text)
		if err == nil {
			return p.Masked(), nil
		}
		a, err := parseAddress(text)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is not an address or a prefix", text)
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}}, name, short, usage)
}

// fileFlag adds a flag for the name of a file, "" where it is not given. Its
// usage has `FILE` in it.
func fileFlag(fs *pflag.FlagSet, name, short, usage string) {
	fs.VarP(&ctlValue[string]{read: func(text string) (string, error) {
		if text == "" {
			return "", errors.New("a file name is missing")
		}
		return text, nil
	}}, name, short, usage)
}
