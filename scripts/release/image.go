// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageUser is "nonroot" by the convention of images without a shell; its number is what a Kubernetes security policy looks at.
const imageUser = "65532:65532"

// built is a product with the files of its archive.
type built struct {
	product
	files []file
}

// writeImages writes one image for each name among the products that are published as images: an OCI layout in a tar file, with the
// products of all architectures. No daemon takes part, and no registry is asked for a base: there is none below the binary.
func (s source) writeImages(products []built, out string) error {
	byName := map[string][]built{}
	for _, p := range products {
		if p.image {
			byName[p.name] = append(byName[p.name], p)
		}
	}
	for name, products := range byName {
		packed, err := s.packImage(products)
		if err != nil {
			return fmt.Errorf("the image of %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(out, name+"_"+s.version+"_image.tar"), packed, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// packImage is the tar file of an image: podman load and skopeo copy oci-archive: read it, and OpenBao once it is in a registry.
func (s source) packImage(products []built) ([]byte, error) {
	index := v1.ImageIndex(empty.Index)
	for _, p := range products {
		image, err := s.image(p)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.os, Architecture: p.arch}},
		})
	}
	dir, err := os.MkdirTemp("", "cloudkeys-image")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	at, err := layout.Write(dir, empty.Index)
	if err != nil {
		return nil, err
	}
	name := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": s.version})
	if err := at.AppendIndex(index, name); err != nil {
		return nil, err
	}
	files, err := filesBelow(dir)
	if err != nil {
		return nil, err
	}
	return packTar(files, s.date)
}

// image is one product as an image: its files in the root directory, and /tmp, where the command keeps plans and reports while it
// works. There is nothing else.
func (s source) image(p built) (v1.Image, error) {
	content, err := packTar(append(slices.Clone(p.files), file{name: "tmp/"}), s.date)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	created := v1.Time{Time: s.date}
	image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{Created: created, CreatedBy: "make release"}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = p.os, p.arch, created
	config.Config = v1.Config{
		User:       imageUser,
		Entrypoint: []string{"/" + p.binary()},
		Labels: map[string]string{
			"org.opencontainers.image.title":    p.name,
			"org.opencontainers.image.version":  s.version,
			"org.opencontainers.image.revision": s.commit,
			"org.opencontainers.image.licenses": "MPL-2.0",
			"org.opencontainers.image.source":   "https://github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys",
		},
	}
	return mutate.ConfigFile(image, config)
}

// filesBelow reads the files of a directory, named from there.
func filesBelow(dir string) ([]file, error) {
	var files []file
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		files = append(files, file{name: name, content: content})
		return err
	})
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, err
}
