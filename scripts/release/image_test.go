// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// twoArchitectures are products as they come out of publish, with another binary for each architecture.
func twoArchitectures() []built {
	var products []built
	for _, arch := range []string{"amd64", "arm64"} {
		p := product{name: pluginName, version: testVersion, os: "linux", arch: arch, image: true}
		products = append(products, built{p, []file{
			{name: pluginName, content: []byte("binary of " + arch), executable: true},
			{name: "LICENSE", content: []byte("MPL-2.0")},
			{name: "SBOM.cdx.json", content: []byte("{}")},
			{name: "THIRD-PARTY-LICENSES.txt", content: []byte("others")},
		}})
	}
	return products
}

func TestAnImageHasTheFilesOfTheArchiveAndNothingElse(t *testing.T) {
	s := source{version: testVersion, commit: testCommit, date: time.Unix(1700000000, 0).UTC()}
	images := imagesOf(t, mustPack(t, s, twoArchitectures()))
	if len(images) != 2 {
		t.Fatalf("%d images, want one for each architecture", len(images))
	}
	for arch, image := range images {
		t.Run(arch+" has one layer, owned by root", func(t *testing.T) {
			want := []string{
				"-rw-r--r-- 0/0 LICENSE", "-rw-r--r-- 0/0 SBOM.cdx.json", "-rw-r--r-- 0/0 THIRD-PARTY-LICENSES.txt",
				"dtrwxrwxrwx 0/0 tmp/", "-rwxr-xr-x 0/0 " + pluginName,
			}
			if got := layersOf(t, image); len(got) != 1 || !slices.Equal(got[0], want) {
				t.Errorf("got %q, want one layer of %q", got, want)
			}
		})
		t.Run(arch+" runs the binary as a user without rights", func(t *testing.T) {
			config, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if config.OS != "linux" || config.Architecture != arch || !config.Created.Equal(s.date) {
				t.Errorf("%s/%s of %s", config.OS, config.Architecture, config.Created)
			}
			c := config.Config
			if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/" + pluginName}) || c.Cmd != nil || c.Env != nil ||
				c.Volumes != nil {
				t.Errorf("%+v", c)
			}
			if c.Labels["org.opencontainers.image.version"] != testVersion || c.Labels["org.opencontainers.image.revision"] != testCommit {
				t.Errorf("%v", c.Labels)
			}
		})
		t.Run(arch+" is whole", func(t *testing.T) {
			if err := validate.Image(image); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnImageIsTheSameEachTime(t *testing.T) {
	s := source{version: testVersion, commit: testCommit, date: time.Unix(1700000000, 0).UTC()}
	if !bytes.Equal(mustPack(t, s, twoArchitectures()), mustPack(t, s, twoArchitectures())) {
		t.Error("it is not")
	}
}

func TestOnlyProductsForContainersBecomeImages(t *testing.T) {
	s := source{version: testVersion, date: time.Unix(1700000000, 0).UTC()}
	products := twoArchitectures()
	products = append(products, built{product{name: "another", version: testVersion, os: "darwin", arch: "arm64"}, products[0].files})
	out := t.TempDir()
	if err := s.writeImages(products, out); err != nil {
		t.Fatal(err)
	}
	written, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(written) != 1 || filepath.Base(written[0]) != pluginName+"_"+testVersion+"_image.tar" {
		t.Errorf("%v, %v", written, err)
	}
}

func mustPack(t *testing.T, s source, products []built) []byte {
	t.Helper()
	packed, err := s.packImage(products)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// imagesOf reads an OCI layout in a tar file, and returns its images by architecture.
func imagesOf(t *testing.T, packed []byte) map[string]v1.Image {
	t.Helper()
	dir := t.TempDir()
	for name, content := range plainTar(t, packed) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := top.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != testVersion {
		t.Fatalf("%+v, %v", manifest, err)
	}
	index, err := top.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	if manifest, err = index.IndexManifest(); err != nil {
		t.Fatal(err)
	}
	images := map[string]v1.Image{}
	for _, each := range manifest.Manifests {
		if images[each.Platform.Architecture], err = index.Image(each.Digest); err != nil {
			t.Fatal(err)
		}
	}
	return images
}

// layersOf lists the files of each layer: mode, owner, name.
func layersOf(t *testing.T, image v1.Image) [][]string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		var files []string
		for archive := tar.NewReader(content); ; {
			header, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, fmt.Sprintf("%s %d/%d %s", header.FileInfo().Mode(), header.Uid, header.Gid, header.Name))
		}
		all = append(all, files)
	}
	return all
}

// plainTar returns the files of a tar file that is not compressed.
func plainTar(t *testing.T, packed []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for archive := tar.NewReader(bytes.NewReader(packed)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(header.Name, "..") {
			t.Fatalf("%s leads out of the archive", header.Name)
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}
