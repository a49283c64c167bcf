/* y[f] = bias[f] + sum of w[f] over windows of x; outside of x is zero. */
static void conv(const float *x, float *y, const weight *w, const float *scale, const float *bias, const conv_shape *s)
{
    const int channels = s->channels / s->groups, filters = s->filters / s->groups;
    int f, i, j, c, p, q;
    (void)scale;
    for (f = 0; f < s->filters; f++) {
        const float *group = x + (f / filters) * channels * s->height * s->width;
        const weight *of_filter = w + f * channels * s->kernel_height * s->kernel_width;
        for (i = 0; i < s->out_height; i++) {
            for (j = 0; j < s->out_width; j++) {
                float sum = 0.0f;
                for (c = 0; c < channels; c++) {
                    for (p = 0; p < s->kernel_height; p++) {
                        const int row = i * s->stride_height + p * s->dilation_height - s->padding_height;
                        if (row < 0 || row >= s->height) {
                            continue;
                        }
                        for (q = 0; q < s->kernel_width; q++) {
                            const int column = j * s->stride_width + q * s->dilation_width - s->padding_width;
                            if (column >= 0 && column < s->width) {
                                sum += (float)of_filter[(c * s->kernel_height + p) * s->kernel_width + q]
                                       * group[(c * s->height + row) * s->width + column];
                            }
                        }
                    }
                }
                *y++ = SCALED(sum, scale, f) + bias[f];
            }
        }
    }
}
