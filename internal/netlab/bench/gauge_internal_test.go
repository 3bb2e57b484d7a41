// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
	"time"
)

func TestChangeTimes(t *testing.T) {
	moments := []int64{100, 200, 300, 400, 500} // join, leave, join, leave, join
	tests := []struct {
		name        string
		arrivals    []int64
		from, until int64
		want        []time.Duration
	}{
		{"both are seen", []int64{110, 150, 190, 203, 205, 320, 399, 401}, 0, 600, []time.Duration{10, 5, 20, 1}},
		{"in any order", []int64{205, 190, 110, 203}, 0, 300, []time.Duration{10, 5}},
		{"a join that is not seen counts as long as it could be", nil, 300, 600, []time.Duration{100, 0}},
		{"a leave that is not seen neither", []int64{250, 299}, 200, 300, []time.Duration{99}},
		{"a leave after which nothing comes is at once", []int64{110, 190}, 200, 300, []time.Duration{0}},
		{"those outside do not count", []int64{110, 320}, 250, 450, []time.Duration{20}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := changeTimes(moments, tt.arrivals, tt.from, tt.until); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	if got := changeTimes(nil, []int64{1}, 0, 10); got != nil {
		t.Errorf("got %v of no changes, want none", got)
	}
}
