// SPDX-License-Identifier: Apache-2.0

package startup_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"vxsnd/internal/startup"
)

func TestErrorsAreTold(t *testing.T) {
	busy := fmt.Errorf("listen: %w", fs.ErrExist)
	tests := []struct {
		name      string
		err       error
		bind      bool
		privilege bool
		hint      string
	}{
		{"busy", startup.New(busy, startup.ErrBind, "end it"), true, false, "end it"},
		{"wrapped", fmt.Errorf("start: %w", startup.New(busy, startup.ErrPrivilege, "be root")), false, true, "be root"},
		{"of no kind", startup.New(busy, nil, ""), false, false, ""},
		{"another", busy, false, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := errors.Is(tt.err, startup.ErrBind); got != tt.bind {
				t.Errorf("ErrBind: got %v, want %v", got, tt.bind)
			}
			if got := errors.Is(tt.err, startup.ErrPrivilege); got != tt.privilege {
				t.Errorf("ErrPrivilege: got %v, want %v", got, tt.privilege)
			}
			if !errors.Is(tt.err, fs.ErrExist) {
				t.Errorf("got %v, want it to match its cause", tt.err)
			}
			if got := startup.Hint(tt.err); got != tt.hint {
				t.Errorf("hint: got %q, want %q", got, tt.hint)
			}
		})
	}
}
