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
		hold time.Duration // 0 for the default
		ago  time.Duration
		want bool
	}{
		{"just started", 0, 0, true},
		{"a minute ago", 0, time.Minute, true},
		{"a holdtime ago", 0, 90 * time.Second, false},
		{"a day ago", 0, 24 * time.Hour, false},
		{"less than a longer holdtime ago", 10 * time.Minute, 9 * time.Minute, true},
		{"a shorter holdtime ago", 10 * time.Second, 10 * time.Second, false},
		{"a minute ago, where nothing ages", config.HoldtimeStatic, time.Minute, true},
		{"a day ago, where nothing ages", config.HoldtimeStatic, 24 * time.Hour, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config.Default()
			if tt.hold > 0 {
				c.Holdtime = tt.hold
			}
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
