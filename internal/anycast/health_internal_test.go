// SPDX-License-Identifier: Apache-2.0

package anycast

import "testing"

func TestHealthIsDamped(t *testing.T) {
	// Results and what comes of them, one character a result: '+' is good and
	// up, '-' bad and down.
	tests := []struct {
		name       string
		up         bool
		rise, fall int
		results    string
		want       string
	}{
		{name: "stays up", up: true, rise: 2, fall: 3, results: "++++", want: "++++"},
		{name: "stays down", rise: 2, fall: 3, results: "----", want: "----"},
		{name: "falls", up: true, rise: 2, fall: 3, results: "+----", want: "+++--"},
		{name: "rises", rise: 2, fall: 3, results: "-++++", want: "--+++"},
		{name: "a good one between", up: true, rise: 2, fall: 3, results: "--+--+---", want: "++++++++-"},
		{name: "a bad one between", rise: 2, fall: 3, results: "+-+-++", want: "-----+"},
		{name: "both ways", up: true, rise: 2, fall: 3, results: "---++---", want: "++--+++-"},
		{name: "without damping", up: true, rise: 1, fall: 1, results: "-+-", want: "-+-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := health{rise: tt.rise, fall: tt.fall, up: tt.up}
			var got []byte
			for _, r := range tt.results {
				before := h.up
				if changed := h.take(r == '+'); changed != (h.up != before) {
					t.Errorf("after %q: got changed %v, want %v", got, changed, !changed)
				}
				if h.up {
					got = append(got, '+')
				} else {
					got = append(got, '-')
				}
			}
			if string(got) != tt.want {
				t.Errorf("got %s for %s, want %s", got, tt.results, tt.want)
			}
		})
	}
}

func TestHealthAfterDrop(t *testing.T) {
	h := health{rise: 2, fall: 3, up: true}
	h.take(false)
	h.drop()
	if h.up || h.take(true) || !h.take(true) || !h.up {
		t.Error("got another course than down, one good result, up")
	}
}
