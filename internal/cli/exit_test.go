// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"vxsnd/internal/config"
	"vxsnd/internal/node"
	"vxsnd/internal/startup"
)

func TestEachErrorHasItsStatusAndSaysWhatToDo(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("open something: %w", err) }
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"busy port", startError(config.Vxsnd, wrap(node.ErrBind), exitFailed), 4},
		{"no capability", startError(config.Vxsnd, wrap(node.ErrPrivilege), exitFailed), 4},
		{"file that cannot be used", startError(config.Vxrd, wrap(startup.ErrConfig), exitFailed), 3},
		{"run time", startError(config.Vxsnd, wrap(errors.New("gone")), exitFailed), 1},
		{"node that cannot be built", startError(config.Vxsnd, wrap(errors.New("too many")), exitConfig), 3},
		{"log file of somebody else", logError(config.Vxsnd, wrap(fs.ErrPermission)), 4},
		{"log file in no directory", logError(config.Vxsnd, wrap(fs.ErrNotExist)), 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if got := report(&out, "vxsnd", tt.err); got != tt.want {
				t.Errorf("got status %d, want %d", got, tt.want)
			}
			lines := strings.Split(out.String(), "\n")
			if len(lines) != 3 || !strings.HasPrefix(lines[0], "vxsnd: open something: ") || !strings.HasPrefix(lines[1], "vxsnd: hint: ") {
				t.Errorf("got %q, want a line that says why and one that says what to do", out.String())
			}
		})
	}
}

func TestNoErrorIsNoWord(t *testing.T) {
	var out bytes.Buffer
	if got := report(&out, "vxsnd", startError(config.Vxsnd, nil, exitFailed)); got != 0 || out.Len() > 0 {
		t.Errorf("got status %d and %q, want 0 and nothing", got, out.String())
	}
}

func TestFlagsAloneAreAMatterOfUsage(t *testing.T) {
	flag, file := &config.Problem{Flag: "-s", Text: "bad"}, &config.Problem{File: "f", Line: 1, Text: "bad"}
	tests := []struct {
		name string
		ps   config.Problems
		want int
	}{
		{"flags", config.Problems{flag, flag}, 2},
		{"file", config.Problems{file}, 3},
		{"both", config.Problems{file, flag}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if got := report(&out, "vxsnd", configError(tt.ps)); got != tt.want {
				t.Errorf("got status %d, want %d", got, tt.want)
			}
			if got := strings.Count(out.String(), "\n"); got != len(tt.ps) {
				t.Errorf("got %d lines, want one for each of %d problems", got, len(tt.ps))
			}
		})
	}
}
