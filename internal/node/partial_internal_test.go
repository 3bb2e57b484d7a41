// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"
	"time"

	"vxsnd/internal/config"
)

func TestAnswersArePartialAtFirst(t *testing.T) {
	tests := []struct {
		name string
		ago  time.Duration
		want bool
	}{
		{"just started", 0, true},
		{"a minute ago", time.Minute, true},
		{"a holdtime ago", 90 * time.Second, false},
		{"a day ago", 24 * time.Hour, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config.Default()
			n, err := New(c, nil)
			if err != nil {
				t.Fatal(err)
			}
			n.began.Store(int64(clock()) - int64(tt.ago))
			if got := n.registerSettings(&c).Partial(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
