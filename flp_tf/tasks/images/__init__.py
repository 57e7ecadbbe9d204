"""What is about images: archives, caches of decoded images, distortion, turned and mirrored images."""
