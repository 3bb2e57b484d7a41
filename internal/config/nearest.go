// SPDX-License-Identifier: Apache-2.0

package config

import "strings"

// Nearest returns that one of the names which is most like s, "" if none is
// like it at all, or s is too long for a name. Case, hyphens and underscores make no difference. Of several
// the first wins.
func Nearest(s string, names []string) string {
	if len(s) > maxWord {
		return ""
	}
	s = fold(s)
	best, bestDistance := "", max(1, len(s)/2)+1
	for _, n := range names {
		if d := distance(s, fold(n)); d < bestDistance {
			best, bestDistance = n, d
		}
	}
	return best
}

func fold(s string) string {
	return strings.ReplaceAll(strings.ToLower(s), "-", "_")
}

// distance counts the bytes to insert, remove or replace to make b from a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
