// Package figure takes down what tests and benchmarks measure, as lines
// "figure NAME VALUE" in the file that $QVPGW_FIGURES names, so that one run of
// make can print the figures of all packages together.
//
// It is for tests and for cmd's measuring commands; it knows nothing of the
// gateway. Lines are appended whole: any number of processes may write one file.
package figure
