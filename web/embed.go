// Package web holds the operators' page: plain HTML, CSS and JavaScript without a
// build step and without any file from elsewhere. internal/admin serves it; its
// data come from /api/status. It knows nothing but the names of that JSON.
package web

import "embed"

// Files are the page's files. They are read only.
//
//go:embed index.html app.js style.css
var Files embed.FS
