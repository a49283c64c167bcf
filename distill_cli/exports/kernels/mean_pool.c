/* The mean of each window; outside of x is zero. */
static void mean_pool(const float *x, float *y, const pool_shape *s)
{
    int c, i, j, p, q;
    for (c = 0; c < s->channels; c++, x += s->height * s->width) {
        for (i = 0; i < s->out_height; i++) {
            for (j = 0; j < s->out_width; j++) {
                float sum = 0.0f;
                for (p = 0; p < s->kernel_height; p++) {
                    const int row = i * s->stride_height + p - s->padding_height;
                    for (q = 0; q < s->kernel_width; q++) {
                        const int column = j * s->stride_width + q - s->padding_width;
                        if (row >= 0 && row < s->height && column >= 0 && column < s->width) {
                            sum += x[row * s->width + column];
                        }
                    }
                }
                *y++ = sum / (float)(s->kernel_height * s->kernel_width);
            }
        }
    }
}
